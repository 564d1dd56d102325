"""GGUF reading: good files give what was written, bad files give ModelFormatError and no more."""

import random
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest

from engine.errors import ModelFormatError, ModelNotFoundError
from engine.gguf.reader import GgufFile

N_FUZZED_FILES = 2000
MAX_FUZZ_BYTES = 4 * 2**20

UINT8, UINT32, BOOL, STRING, ARRAY, UINT64 = 0, 4, 7, 8, 9, 10
F32, Q8_0 = 0, 8


def text(value: str | bytes) -> bytes:
    content = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(content)) + content


def entry(key: str | bytes, value_type: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", value_type) + value


def array(element_type: int, n_elements: int, elements: bytes = b"") -> bytes:
    return struct.pack("<IQ", element_type, n_elements) + elements


def tensor(name: str, shape: tuple[int, ...], ggml_type: int = F32, offset: int = 0) -> bytes:
    dims = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return text(name) + dims + struct.pack("<IQ", ggml_type, offset)


def header(
    *entries: bytes,
    tensors: tuple[bytes, ...] = (),
    n_entries: int | None = None,
    n_tensors: int | None = None,
    version: int = 3,
    data: bytes = b"",
    alignment: int = 32,
) -> bytes:
    """The bytes of a whole file, written by hand; counts can be made to lie."""
    n_tensors = len(tensors) if n_tensors is None else n_tensors
    n_entries = len(entries) if n_entries is None else n_entries
    counts = struct.pack("<IQQ", version, n_tensors, n_entries)
    content = b"GGUF" + counts + b"".join(entries) + b"".join(tensors)
    return content + b"\0" * (-len(content) % alignment) + data


@pytest.fixture
def write(tmp_path: Path) -> Callable[[bytes], Path]:
    def write_bytes(content: bytes) -> Path:
        path = tmp_path / "model.gguf"
        path.write_bytes(content)
        return path

    return write_bytes


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A file from the reference writer, with every kind of value."""
    writer = gguf.GGUFWriter(tmp_path / "written.gguf", "llama")
    writer.add_uint8("a.u8", 200)
    writer.add_int8("a.i8", -100)
    writer.add_uint16("a.u16", 60000)
    writer.add_int16("a.i16", -30000)
    writer.add_int32("a.i32", -(2**31))
    writer.add_uint64("a.u64", 2**63)
    writer.add_int64("a.i64", -(2**62))
    writer.add_float32("a.f32", 0.5)
    writer.add_float64("a.f64", 1e300)
    writer.add_bool("a.yes", True)
    writer.add_string("a.text", "größe 漢字 😀")
    writer.add_array("a.numbers", [1, -2, 3])
    writer.add_array("a.floats", [0.5, -0.25])
    writer.add_array("a.flags", [True, False])
    writer.add_array("a.strings", ["", "x", "漢\n"])
    writer.add_context_length(4096)
    writer.add_tensor("norm", np.arange(6, dtype=np.float32))
    matrix = np.linspace(-1, 1, 3 * 64, dtype=np.float32).reshape(3, 64)
    quantized = gguf.quantize(matrix, gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("matrix", quantized, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tmp_path / "written.gguf"


def test_every_kind_of_value_reads_back_as_written(written: Path) -> None:
    with GgufFile(written) as file:
        assert dict(file.metadata) == {
            "general.architecture": "llama",
            "a.u8": 200,
            "a.i8": -100,
            "a.u16": 60000,
            "a.i16": -30000,
            "a.i32": -(2**31),
            "a.u64": 2**63,
            "a.i64": -(2**62),
            "a.f32": 0.5,
            "a.f64": 1e300,
            "a.yes": True,
            "a.text": "größe 漢字 😀",
            "a.numbers": [1, -2, 3],
            "a.floats": [0.5, -0.25],
            "a.flags": [True, False],
            "a.strings": ["", "x", "漢\n"],
            "llama.context_length": 4096,
        }


def test_tensors_read_back_as_written(written: Path) -> None:
    with GgufFile(written) as file:
        matrix = file.tensors["matrix"]
        assert list(file.tensors) == ["norm", "matrix"]
        assert matrix.shape == (64, 3)
        assert matrix.ggml_type == gguf.GGMLQuantizationType.Q8_0
        assert matrix.n_bytes == 3 * 2 * 34
        norm = file.data("norm")
        assert norm.dtype == np.uint8 and not norm.flags.writeable and not norm.flags.owndata
        assert norm.view(np.float32).tolist() == [0, 1, 2, 3, 4, 5]
        expected = np.linspace(-1, 1, 3 * 64, dtype=np.float32).reshape(3, 64)
        blocks = file.data("matrix").reshape(3, 68)
        np.testing.assert_allclose(gguf.dequantize(blocks, matrix.ggml_type), expected, atol=5e-3)


def test_data_outlives_the_file_object(written: Path) -> None:
    file = GgufFile(written)
    norm = file.data("norm")
    file.close()
    file.close()
    assert norm.view(np.float32)[5] == 5


def test_typed_access_says_what_was_found(written: Path) -> None:
    with GgufFile(written) as file:
        assert file.architecture == "llama"
        assert file.require(file.key("context_length"), int) == 4096
        assert file.optional("missing", int) is None
        assert file.optional_list("missing", int) is None
        assert file.require_list("a.strings", str) == ["", "x", "漢\n"]
        with pytest.raises(ModelFormatError, match="'a.text' holds the string '.*expected integer"):
            file.require("a.text", int)
        with pytest.raises(ModelFormatError, match="'a.yes' holds the bool True, expected integer"):
            file.optional("a.yes", int)
        with pytest.raises(ModelFormatError, match="'missing' is missing, expected float"):
            file.require("missing", float)
        with pytest.raises(ModelFormatError, match="holds an array of 3 integers, expected string"):
            file.require("a.numbers", str)
        with pytest.raises(ModelFormatError, match="expected an array of strings"):
            file.require_list("a.numbers", str)
        with pytest.raises(ModelFormatError, match="'missing' is missing, expected an array"):
            file.require_list("missing", float)
        with pytest.raises(ModelFormatError, match="tensor 'nothing' is missing"):
            file.data("nothing")


def test_version_2_reads_like_version_3(write: Callable[[bytes], Path]) -> None:
    content = header(entry("k", UINT32, b"\7\0\0\0"), version=2)
    with GgufFile(write(content)) as file:
        assert dict(file.metadata) == {"k": 7}
        assert dict(file.tensors) == {}


def test_alignment_moves_the_data(write: Callable[[bytes], Path]) -> None:
    content = header(
        entry("general.alignment", UINT32, struct.pack("<I", 256)),
        tensors=(tensor("w", (1,)),),
        alignment=256,
        data=struct.pack("<f", 2.5),
    )
    with GgufFile(write(content)) as file:
        assert file.tensors["w"].offset == 256
        assert file.data("w").view(np.float32).tolist() == [2.5]


def bad_alignment(value: int) -> bytes:
    return header(entry("general.alignment", UINT32, struct.pack("<I", value)))


NUMBER = entry("k", UINT32, b"\7\0\0\0")
BAD_FILES = {
    "empty": (b"", "it is empty"),
    "no magic": (b"GGML" + header()[4:], "begins with b'GGML'"),
    "magic only": (b"GGUF", "the version at offset 4 takes 4 bytes, expected at most the 0"),
    "version 1": (header(version=1), "version is 1, expected 2 or 3"),
    "version 4": (header(version=4), "version is 4"),
    "big-endian": (b"GGUF\0\0\0\3" + bytes(16), "big-endian"),
    "no counts": (header()[:12], "the tensor count at offset 8"),
    "lying tensor count": (header(n_tensors=2**63), "the tensor count at offset 8 is 9223"),
    "lying metadata count": (header(n_entries=2**64 - 1), "the metadata count at offset 16"),
    "too few entries": (header(NUMBER, n_entries=2), "a metadata key at offset 41 is ''"),
    "key beyond the end": (header(struct.pack("<Q", 2**60) + bytes(9)), "a metadata key at"),
    "key too long": (header(entry("k" * 1025, UINT32, bytes(4))), "expected at most 1024"),
    "key not UTF-8": (header(entry(b"\xff\xfe", UINT32, bytes(4))), "not UTF-8"),
    "key with control characters": (header(entry("\x1b[2J", UINT32, bytes(4))), "printable"),
    "key twice": (header(NUMBER, NUMBER), "'k' appears twice, again at offset 41"),
    "unknown value type": (header(entry("k", 13, bytes(8))), "the type of 'k' at offset 33 is 13"),
    "string beyond the end": (
        header(entry("k", STRING, struct.pack("<Q", 2**63) + b"abc")),
        "the value of 'k' at offset 45 takes 9223372036854775808 bytes",
    ),
    "string not UTF-8": (header(entry("k", STRING, text(b"\xc3\x28"))), "not UTF-8"),
    "array of arrays": (header(entry("k", ARRAY, array(ARRAY, 0))), "element type of 'k'.* is 9"),
    "lying number count": (header(entry("k", ARRAY, array(UINT64, 2**61))), "element count of 'k'"),
    "lying string count": (header(entry("k", ARRAY, array(STRING, 2**61))), "element count of 'k'"),
    "element beyond the end": (
        header(entry("k", ARRAY, array(STRING, 2, struct.pack("<Q", 2**63) + bytes(32)))),
        "string 1 of 'k' begins beyond",
    ),
    "last element beyond the end": (
        header(entry("k", ARRAY, array(STRING, 1, struct.pack("<Q", 2**63) + bytes(8)))),
        "the strings of 'k' at offset 49 takes",
    ),
    "alignment 0": (bad_alignment(0), "alignment is the integer 0, expected a power of two"),
    "alignment 48": (bad_alignment(48), "alignment is the integer 48"),
    "alignment a string": (
        header(entry("general.alignment", STRING, text("32"))),
        "alignment is the string '32'",
    ),
    "no dimensions": (header(tensors=(tensor("w", ()),), data=bytes(64)), "0 dimensions"),
    "five dimensions": (
        header(tensors=(tensor("w", (1,) * 5),), data=bytes(64)),
        "'w' at offset 33 has 5 dimensions, expected 1..4",
    ),
    "a billion dimensions": (
        header(tensors=(text("w") + struct.pack("<I", 10**9) + bytes(32),)),
        "1000000000 dimensions",
    ),
    "dimension 0": (header(tensors=(tensor("w", (4, 0)),)), r"shape \(4, 0\), expected positive"),
    "product beyond 64 bits": (
        header(tensors=(tensor("w", (2**32, 2**32, 2**32)),), data=bytes(64)),
        "the data of 'w' is 316912650057057350374175801344 bytes",
    ),
    "broken quant block": (
        header(tensors=(tensor("w", (33,), Q8_0),), data=bytes(64)),
        "rows of a multiple of 32",
    ),
    "unknown weight type": (
        header(tensors=(tensor("w", (32,), 999),), data=bytes(64)),
        "the unknown type 999",
    ),
    "tensor twice": (
        header(tensors=(tensor("w", (1,)), tensor("w", (1,))), data=bytes(64)),
        "tensor 'w' appears twice, again at offset 57",
    ),
    "data not aligned": (
        header(tensors=(tensor("w", (1,), offset=4),), data=bytes(64)),
        "the data offset of 'w' is 4, expected a multiple of 32",
    ),
    "data beyond the end": (
        header(tensors=(tensor("w", (17,)),), data=bytes(64)),
        "68 bytes at offset 64, expected to end by 128",
    ),
    "offset beyond the end": (
        header(tensors=(tensor("w", (1,), offset=2**64 - 32),), data=bytes(64)),
        "the file may be cut short",
    ),
}


@pytest.mark.parametrize(("content", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_file_is_refused_with_its_reason(
    write: Callable[[bytes], Path], content: bytes, message: str
) -> None:
    path = write(content)
    with pytest.raises(ModelFormatError, match=message) as raised:
        GgufFile(path)
    assert raised.value.path == path


def test_an_array_string_that_is_not_utf_8_is_refused_when_it_is_read(
    write: Callable[[bytes], Path],
) -> None:
    strings = array(STRING, 2, text("ok") + text(b"\xff"))
    with (
        GgufFile(write(header(entry("k", ARRAY, strings)))) as file,
        pytest.raises(ModelFormatError, match="string 1 of the array 'k' is not UTF-8"),
    ):
        file.require_list("k", str)


def test_a_missing_file_is_a_missing_model(tmp_path: Path) -> None:
    for path in (tmp_path / "none.gguf", tmp_path):
        with pytest.raises(ModelNotFoundError, match=str(tmp_path)):
            GgufFile(path)


def damaged(content: bytes, rng: random.Random) -> bytes:
    """A truncation or a few changed bytes; half of the changes are the extreme values."""
    if rng.random() < 0.3:
        return content[: rng.randrange(len(content))]
    changed = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        value = rng.choice((0, 0x7F, 0x80, 0xFF)) if rng.random() < 0.5 else rng.randrange(256)
        changed[rng.randrange(len(changed))] = value
    return bytes(changed)


def test_damaged_files_are_read_or_refused_and_never_cost_memory(
    written: Path, tmp_path: Path
) -> None:
    content, rng = written.read_bytes(), random.Random(1)
    n_refused = 0
    tracemalloc.start()
    try:
        with open(tmp_path / "damaged.gguf", "wb", buffering=0) as damaged_file:
            for _ in range(N_FUZZED_FILES):
                damaged_file.seek(0)
                damaged_file.write(damaged(content, rng))
                damaged_file.truncate()
                n_refused += not is_readable(tmp_path / "damaged.gguf")
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert N_FUZZED_FILES // 10 < n_refused < N_FUZZED_FILES
    assert peak_bytes < MAX_FUZZ_BYTES


def is_readable(path: Path) -> bool:
    """Reads all there is; any error but the one for bad files goes through."""
    try:
        with GgufFile(path) as file:
            dict(file.metadata)
            for name in file.tensors:
                file.data(name).sum()
    except ModelFormatError:
        return False
    return True
