"""Three layouts, one drafter; what is wrong with a file is said by name."""

import json
from pathlib import Path

import numpy as np
import pytest

from engine.backends.cpu import native_type
from engine.errors import EngineError, ModelFormatError, ModelNotFoundError, UnsupportedModelError
from engine.speculation.drafter_file import DrafterFile, open_drafter
from tests.tiny_drafter import TinyDrafter
from tests.tiny_gguf import write_tiny_gguf


def open_it(path: Path) -> DrafterFile:
    return open_drafter(path, native_type)


def tensors_of(file: DrafterFile) -> dict[str, bytes]:
    return {name: file.weights.tensors[name].load().tobytes() for name in file.spec.shapes()}


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_every_layout_gives_the_same_drafter(tmp_path: Path, dtype: str) -> None:
    drafter = TinyDrafter()
    for name, value in drafter.tensors.items():  # numbers that every type holds exactly
        bits = np.asarray(value, np.float16).astype(np.float32).view(np.uint32) & 0xFFFF0000
        drafter.tensors[name] = bits.view(np.float32)
    files = [
        open_it(drafter.write_llama_cpp(tmp_path / "a.gguf", "Q8_0")),
        open_it(drafter.write_lucebox(tmp_path / "b.gguf", "Q8_0")),
        open_it(drafter.write_safetensors(tmp_path / "c", dtype)),
    ]
    assert files[0].spec == files[1].spec == files[2].spec
    assert files[0].spec.taps == drafter.taps
    assert tensors_of(files[0]) == tensors_of(files[1]) == tensors_of(files[2])


def test_windows_and_vocabulary_come_from_the_metadata(tmp_path: Path) -> None:
    drafter = TinyDrafter(window=24, sliding=(True, False), vocabulary=(1, 5, 8))
    for path in (drafter.write_llama_cpp(tmp_path / "a"), drafter.write_lucebox(tmp_path / "b")):
        spec = open_it(path).spec
        assert spec.windows == (24, None)
        assert spec.vocabulary is not None and spec.vocabulary.tolist() == [1, 5, 8]
    assert open_it(drafter.write_safetensors(tmp_path / "c")).spec.windows == (24, None)


def test_a_head_of_its_own_names_the_ids_of_its_rows(tmp_path: Path) -> None:
    drafter = TinyDrafter(vocabulary=(8, 1, 5), has_head=True)
    spec = open_it(drafter.write_llama_cpp(tmp_path / "d.gguf")).spec
    assert spec.vocabulary is not None and spec.vocabulary.tolist() == [8, 1, 5]
    drafter.tensors["output.weight"] = drafter.tensors["output.weight"][:2]
    with pytest.raises(
        ModelFormatError, match=r"'output.weight' is \(2, 128\), expected \(3, 128\)"
    ):
        open_it(drafter.write_llama_cpp(tmp_path / "d.gguf"))


def test_block_settings_of_a_config_lie_in_either_place(tmp_path: Path) -> None:
    folder = TinyDrafter().write_safetensors(tmp_path / "d")
    expected = open_it(folder).spec
    config = json.loads((folder / "config.json").read_text())
    config |= config.pop("dflash_config")
    config["rope_parameters"] = {"rope_theta": config.pop("rope_theta"), "rope_type": "default"}
    (folder / "config.json").write_text(json.dumps(config))
    assert open_it(folder).spec == expected


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"rope.scaling.type": "yarn"}, "a drafter's rope.scaling.type 'yarn'"),
        ({"attention.causal": True}, "a drafter's attention.causal 'True'"),
        ({"embedding_scale": 32.0}, "a drafter's embedding_scale '32.0'"),
        ({"hidden_act": "gelu"}, "a drafter's hidden_act 'gelu'"),
        ({"rope.dimension_count": 8}, "a drafter's rope.dimension_count '8'"),
    ],
)
def test_a_drafter_that_computes_otherwise_is_refused(
    tmp_path: Path, metadata: dict, message: str
) -> None:
    with pytest.raises(UnsupportedModelError, match=message):
        open_it(TinyDrafter(metadata=metadata).write_llama_cpp(tmp_path / "d.gguf"))


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"rope_scaling": {"type": "yarn"}}, "a drafter's rope scaling 'yarn'"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "a drafter's rope scaling 'yarn'"),
        ({"hidden_act": "gelu"}, "a drafter's hidden_act 'gelu'"),
    ],
)
def test_a_config_of_another_computation_is_refused(
    tmp_path: Path, metadata: dict, message: str
) -> None:
    with pytest.raises(UnsupportedModelError, match=message):
        open_it(TinyDrafter(metadata=metadata).write_safetensors(tmp_path / "d"))


@pytest.mark.parametrize("name", ["markov_w1.weight", "blk.0.attn_sinks.weight", "fc.scale"])
def test_tensors_of_a_richer_drafter_are_refused(tmp_path: Path, name: str) -> None:
    drafter = TinyDrafter()
    drafter.tensors[name] = np.ones(32, np.float32)
    with pytest.raises(UnsupportedModelError, match=f"drafter tensor '{name}'"):
        open_it(drafter.write_llama_cpp(tmp_path / "d.gguf"))
    del drafter.tensors[name]
    drafter.tensors["dflash.domino.head.weight"] = np.ones(32, np.float32)
    assert open_it(drafter.write_lucebox(tmp_path / "d.gguf")).spec.taps == drafter.taps


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"block_size": 1}, "its block has 1 rows"),
        ({"block_size": 10_000}, "its block has 10000 rows"),
        ({"taps": (2, 2)}, r"taps layers \[2, 2\]"),
        ({"taps": (-1, 2)}, r"taps layers \[-1, 2\]"),
        ({"vocabulary": (5, 5)}, "not of different ids"),
        ({"vocabulary": (-1, 5)}, "ids that are none"),
        ({"vocabulary": (1, 2**40), "has_head": True}, "ids that are none"),
        ({"rope_theta": float("nan")}, "its rope theta is nan"),
        ({"metadata": {"attention.sliding_window": -4}}, "windows are"),
        ({"window": 9, "sliding": (True,)}, "windows are not one per layer"),
    ],
)
def test_impossible_metadata_is_refused(tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(ModelFormatError, match=message):
        open_it(TinyDrafter(**options).write_llama_cpp(tmp_path / "d.gguf"))


def test_a_missing_or_misshapen_tensor_is_named(tmp_path: Path) -> None:
    drafter = TinyDrafter()
    drafter.tensors["blk.1.attn_k.weight"] = np.zeros((32, 64), np.float32)
    with pytest.raises(
        ModelFormatError, match=r"attn_k.weight' is \(32, 64\), expected \(32, 128\)"
    ):
        open_it(drafter.write_llama_cpp(tmp_path / "a.gguf"))
    del drafter.tensors["blk.1.attn_k.weight"]
    with pytest.raises(ModelFormatError, match=r"'blk.1.attn_k.weight' is missing"):
        open_it(drafter.write_llama_cpp(tmp_path / "b.gguf"))


def test_a_model_that_is_no_drafter_is_refused(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "m.gguf", "llama")
    with pytest.raises(UnsupportedModelError, match="drafter architecture 'llama'"):
        open_it(path)


def test_safetensors_need_their_config(tmp_path: Path) -> None:
    folder = TinyDrafter().write_safetensors(tmp_path / "d")
    config = json.loads((folder / "config.json").read_text())
    del config["dflash_config"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelFormatError, match="'block_size', 'mask_token_id' or"):
        open_it(folder)
    (folder / "config.json").unlink()
    with pytest.raises(ModelNotFoundError, match="belongs beside the weights"):
        open_it(folder)


def test_hostile_counts_take_no_memory(tmp_path: Path) -> None:
    drafter = TinyDrafter(metadata={"attention.sliding_window": 24})
    drafter.n_layer = 2**32 - 1
    with pytest.raises(ModelFormatError, match="n_layer is 4294967295, expected 1..1024"):
        open_it(drafter.write_llama_cpp(tmp_path / "d.gguf"))
    with pytest.raises(ModelFormatError, match="num_hidden_layers"):
        open_it(drafter.write_safetensors(tmp_path / "d"))


def test_damaged_gguf_ends_in_a_clear_error(tmp_path: Path) -> None:
    drafter = TinyDrafter(vocabulary=(1, 5, 8), window=24, sliding=(True, False))
    sound = drafter.write_llama_cpp(tmp_path / "d.gguf", "Q8_0").read_bytes()
    n_header = sound.rindex(b"output_norm.weight")
    rng = np.random.default_rng(1)
    n_refused = 0
    for _ in range(300):
        damaged = bytearray(sound)
        for at in rng.integers(0, n_header, int(rng.integers(1, 4))):
            damaged[at] = int(rng.integers(0, 256))
        path = tmp_path / "e.gguf"
        path.write_bytes(damaged)
        try:
            tensors_of(open_it(path))
        except EngineError:
            n_refused += 1
    assert n_refused > 100


def test_damaged_safetensors_end_in_a_clear_error(tmp_path: Path) -> None:
    folder = TinyDrafter().write_safetensors(tmp_path / "d")
    path = folder / "model.safetensors"
    sound = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(sound)
        for _ in range(int(rng.integers(1, 4))):
            damaged[int(rng.integers(0, 3000))] = int(rng.integers(0, 256))
        path.write_bytes(damaged[: int(rng.integers(0, len(damaged)))])
        try:
            tensors_of(open_it(folder))
        except EngineError as error:
            assert str(error)
