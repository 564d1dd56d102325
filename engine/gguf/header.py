"""The header of a GGUF file, version 2 and 3: where every value and tensor lies.

Every length, count and offset is checked before it is used, so that a truncated or hostile file
ends in ModelFormatError and never in a large allocation. Never decodes an array.
"""

import math
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, cast

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType

from engine.errors import ModelFormatError

MetadataScalar = str | int | float | bool

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_DEFAULT_ALIGNMENT = 32
_MAX_DIMS = 4
_MAX_NAME_BYTES = 1024
# The fewest bytes an entry can take: what a lying count is checked against.
_MIN_METADATA_BYTES = 8 + 4 + 1
_MIN_TENSOR_BYTES = 8 + 4 + 8 + 4 + 8

# Fixed-size values, as `struct` and NumPy both spell them.
VALUE_FORMATS: dict[int, str] = {
    GGUFValueType.UINT8: "<B",
    GGUFValueType.INT8: "<b",
    GGUFValueType.UINT16: "<H",
    GGUFValueType.INT16: "<h",
    GGUFValueType.UINT32: "<I",
    GGUFValueType.INT32: "<i",
    GGUFValueType.FLOAT32: "<f",
    GGUFValueType.BOOL: "<?",
    GGUFValueType.UINT64: "<Q",
    GGUFValueType.INT64: "<q",
    GGUFValueType.FLOAT64: "<d",
}
STRING_LENGTH = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where a tensor lies. `shape` is in GGML's order, the fastest dimension (a matrix's inputs)
    first; `offset` counts from the start of the file."""

    name: str
    ggml_type: GGMLQuantizationType
    shape: tuple[int, ...]
    offset: int
    n_bytes: int


@dataclass(frozen=True, slots=True)
class MetadataArray:
    """A metadata array that is known to lie inside the file: its bytes, not decoded yet."""

    element_type: int
    n_elements: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    """A checked header: all it names lies inside the file."""

    version: int
    values: Mapping[str, MetadataScalar | MetadataArray]
    tensors: Mapping[str, TensorInfo]


def parse_header(path: Path, content: mmap.mmap) -> Header:
    """Read the header of the file mapped at `content`; `path` is for messages.

    Raises ModelFormatError, which says where, what was found and what was expected.
    """
    return _Parser(path, content).parse()


class _Parser:
    """A cursor over the header. Every read is checked against the end of the file."""

    def __init__(self, path: Path, content: mmap.mmap) -> None:
        self._path, self._content, self._end = path, content, len(content)
        self._pos = 0

    def parse(self) -> Header:
        version = self._read_version()
        n_tensors = self._read_count("the tensor count", _MIN_TENSOR_BYTES)
        n_values = self._read_count("the metadata count", _MIN_METADATA_BYTES)
        values: dict[str, MetadataScalar | MetadataArray] = {}
        for _ in range(n_values):
            start = self._pos
            key = self._read_name("a metadata key")
            if key in values:
                self._fail(f"metadata key '{key}' appears twice, again at offset {start}")
            values[key] = self._read_value(key)
        infos = self._read_tensors(n_tensors)
        tensors = self._place_tensors(infos, self._alignment(values))
        return Header(version, values, tensors)

    def _read_version(self) -> int:
        magic = self._content[: len(_MAGIC)]
        if magic != _MAGIC:
            self._fail(f"it begins with {magic!r}, expected {_MAGIC!r}")
        self._pos = len(_MAGIC)
        version = self._u32("the version")
        if version & 0xFFFF == 0:
            self._fail("it is big-endian, expected a little-endian file")
        if version not in _VERSIONS:
            self._fail(f"its version is {version}, expected 2 or 3")
        return version

    def _u32(self, what: str) -> int:
        return self._read("<I", what)

    def _u64(self, what: str) -> int:
        return self._read("<Q", what)

    def _read(self, layout: str, what: str) -> Any:
        n_bytes = struct.calcsize(layout)
        self._need(n_bytes, what)
        (value,) = struct.unpack_from(layout, self._content, self._pos)
        self._pos += n_bytes
        return value

    def _read_count(self, what: str, min_bytes: int) -> int:
        """A count of entries of at least `min_bytes` each, which must fit into what is left."""
        start = self._pos
        count = self._u64(what)
        limit = (self._end - self._pos) // min_bytes
        if count > limit:
            self._fail(f"{what} at offset {start} is {count}, expected at most {limit}")
        return count

    def _read_string(self, what: str, limit_bytes: int | None = None) -> str:
        n_bytes = self._u64(f"the length of {what}")
        if limit_bytes is not None and n_bytes > limit_bytes:
            self._fail(
                f"{what} at offset {self._pos} is {n_bytes} bytes long, "
                f"expected at most {limit_bytes}"
            )
        self._need(n_bytes, what)
        start, self._pos = self._pos, self._pos + n_bytes
        try:
            return self._content[start : self._pos].decode()
        except UnicodeDecodeError as error:
            self._fail(f"{what} at offset {start} is not UTF-8: {error}")

    def _read_name(self, what: str) -> str:
        """A string that is fit for a message."""
        start = self._pos
        name = self._read_string(what, _MAX_NAME_BYTES)
        if not name or not name.isprintable():
            self._fail(f"{what} at offset {start} is {name!r}, expected printable characters")
        return name

    def _read_value(self, key: str) -> MetadataScalar | MetadataArray:
        start = self._pos
        value_type = self._u32(f"the type of '{key}'")
        if value_type == GGUFValueType.STRING:
            return self._read_string(f"the value of '{key}'")
        if value_type == GGUFValueType.ARRAY:
            return self._read_array(key)
        if value_type not in VALUE_FORMATS:
            self._fail(f"the type of '{key}' at offset {start} is {value_type}, expected 0..12")
        return self._read(VALUE_FORMATS[value_type], f"the value of '{key}'")

    def _read_array(self, key: str) -> MetadataArray:
        """Finds where an array ends. Arrays of arrays, which no model has, are refused."""
        start = self._pos
        element_type = self._u32(f"the element type of '{key}'")
        is_string = element_type == GGUFValueType.STRING
        if not is_string and element_type not in VALUE_FORMATS:
            self._fail(
                f"the element type of '{key}' at offset {start} is {element_type}, "
                "expected a number, a bool or a string"
            )
        element_bytes = 8 if is_string else struct.calcsize(VALUE_FORMATS[element_type])
        n_elements = self._read_count(f"the element count of '{key}'", element_bytes)
        start = self._pos
        if is_string:
            self._skip_strings(key, n_elements)
        else:
            self._pos += n_elements * element_bytes
        return MetadataArray(element_type, n_elements, start, self._pos)

    def _skip_strings(self, key: str, n_strings: int) -> None:
        # The one loop whose speed counts: it runs once per token and once per merge.
        content, read_length = self._content, STRING_LENGTH.unpack_from
        pos, last = self._pos, self._end - 8
        for string_idx in range(n_strings):
            if pos > last:
                self._fail(f"string {string_idx} of '{key}' begins beyond the file's end")
            pos += 8 + read_length(content, pos)[0]
        self._need(pos - self._pos, f"the strings of '{key}'")
        self._pos = pos

    def _read_tensors(self, n_tensors: int) -> dict[str, TensorInfo]:
        """The tensors, their offsets still counted from the start of the data."""
        infos: dict[str, TensorInfo] = {}
        for _ in range(n_tensors):
            start = self._pos
            name = self._read_name("a tensor name")
            if name in infos:
                self._fail(f"tensor '{name}' appears twice, again at offset {start}")
            infos[name] = self._read_tensor(name)
        return infos

    def _read_tensor(self, name: str) -> TensorInfo:
        start = self._pos
        n_dims = self._u32(f"the dimension count of '{name}'")
        if not 1 <= n_dims <= _MAX_DIMS:
            self._fail(f"tensor '{name}' at offset {start} has {n_dims} dimensions, expected 1..4")
        shape = tuple(self._u64(f"the shape of '{name}'") for _ in range(n_dims))
        type_number = self._u32(f"the weight type of '{name}'")
        offset = self._u64(f"the data offset of '{name}'")
        try:
            ggml_type = GGMLQuantizationType(type_number)
        except ValueError:
            self._fail(f"tensor '{name}' at offset {start} has the unknown type {type_number}")
        weights_per_block, block_bytes = GGML_QUANT_SIZES[ggml_type]
        if 0 in shape or shape[0] % weights_per_block:
            self._fail(
                f"tensor '{name}' at offset {start} has shape {shape}, expected positive "
                f"dimensions and rows of a multiple of {weights_per_block} ({ggml_type.name})"
            )
        n_bytes = math.prod(shape) // weights_per_block * block_bytes
        return TensorInfo(name, ggml_type, shape, offset, n_bytes)

    def _alignment(self, values: Mapping[str, MetadataScalar | MetadataArray]) -> int:
        alignment = values.get("general.alignment", _DEFAULT_ALIGNMENT)
        is_power_of_two = (
            type(alignment) is int and alignment > 0 and alignment & (alignment - 1) == 0
        )
        if not is_power_of_two:
            self._fail(f"general.alignment is {describe(alignment)}, expected a power of two")
        return cast(int, alignment)

    def _place_tensors(self, infos: dict[str, TensorInfo], alignment: int) -> dict[str, TensorInfo]:
        """Turns offsets into positions in the file and checks that the data lies inside it."""
        data_start = -(-self._pos // alignment) * alignment
        placed: dict[str, TensorInfo] = {}
        for name, info in infos.items():
            if info.offset % alignment:
                self._fail(
                    f"the data offset of '{name}' is {info.offset}, "
                    f"expected a multiple of {alignment}"
                )
            offset = data_start + info.offset
            if offset + info.n_bytes > self._end:
                self._fail(
                    f"the data of '{name}' is {info.n_bytes} bytes at offset {offset}, "
                    f"expected to end by {self._end}; the file may be cut short"
                )
            placed[name] = TensorInfo(name, info.ggml_type, info.shape, offset, info.n_bytes)
        return placed

    def _need(self, n_bytes: int, what: str) -> None:
        if n_bytes > self._end - self._pos:
            self._fail(
                f"{what} at offset {self._pos} takes {n_bytes} bytes, "
                f"expected at most the {self._end - self._pos} that are left"
            )

    def _fail(self, detail: str) -> NoReturn:
        raise ModelFormatError(self._path, detail)


def element_kind(array: MetadataArray) -> type[MetadataScalar]:
    """The Python type of an array's elements."""
    match array.element_type:
        case GGUFValueType.STRING:
            return str
        case GGUFValueType.BOOL:
            return bool
        case GGUFValueType.FLOAT32 | GGUFValueType.FLOAT64:
            return float
        case _:
            return int


def kind_name(kind: type[MetadataScalar]) -> str:
    """What a message calls values of a Python type."""
    return {str: "string", int: "integer", float: "float", bool: "bool"}[kind]


def describe(value: MetadataScalar | MetadataArray) -> str:
    """What was found, short enough for a message."""
    if isinstance(value, MetadataArray):
        return f"an array of {value.n_elements} {kind_name(element_kind(value))}s"
    text = repr(value)
    return f"the {kind_name(type(value))} {text[:60] + '...' if len(text) > 60 else text}"
