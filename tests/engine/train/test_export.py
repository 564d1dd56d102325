"""What is written is read back, here and by the engine."""

from pathlib import Path

import gguf
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from gguf import GGMLQuantizationType as Kind  # noqa: E402

from engine.speculation.drafter_file import open_drafter  # noqa: E402
from engine.train.drafter import Drafter  # noqa: E402
from engine.train.export import read_drafter, write_drafter  # noqa: E402
from engine.train.quantize import pretend_stored  # noqa: E402
from tests.engine.train.test_drafter import CONFIG  # noqa: E402

VOCABULARY = torch.tensor([7, 3, 11])


def written(folder: Path, kind: Kind) -> tuple[Path, Drafter]:
    torch.manual_seed(0)
    drafter = Drafter(CONFIG)
    path = folder / "drafter.gguf"
    write_drafter(path, drafter, kind, VOCABULARY, n_vocab=50, context_length=512, name="toy")
    return path, drafter


@pytest.mark.parametrize("kind", [Kind.F32, Kind.F16, Kind.Q8_0, Kind.Q4_0])
def test_tensors_come_back_as_stored(tmp_path: Path, kind: Kind) -> None:
    path, drafter = written(tmp_path, kind)

    again, vocabulary = read_drafter(path)

    with pretend_stored(drafter, kind):
        for (name, a), (_, b) in zip(
            drafter.named_parameters(), again.named_parameters(), strict=True
        ):
            assert torch.equal(a, b), name
    assert vocabulary.tolist() == [3, 7, 11]
    assert again.c.taps == CONFIG.taps and again.c.mask_id == CONFIG.mask_id


def test_the_engine_opens_it(tmp_path: Path) -> None:
    path, _ = written(tmp_path, Kind.Q4_0)

    spec = open_drafter(path, lambda kind: True).spec

    assert (spec.n_layer, spec.n_embd, spec.taps) == (2, 32, CONFIG.taps)
    assert spec.block_size == 16 and spec.mask_token == CONFIG.mask_id
    assert spec.vocabulary is not None and spec.vocabulary.tolist() == [3, 7, 11]


def test_llama_cpp_finds_its_names(tmp_path: Path) -> None:
    reader = gguf.GGUFReader(written(tmp_path, Kind.F16)[0])

    names = {tensor.name for tensor in reader.tensors}
    assert {"fc.weight", "enc.output_norm.weight", "output_norm.weight"} <= names
    assert "blk.1.attn_k_norm.weight" in names and len(names) == 3 + 11 * CONFIG.n_layer
    # It taps inputs of layers, one further than the outputs.
    assert reader.fields["dflash.target_layers"].contents() == [1, 2]
    assert np.all([name.endswith(".weight") for name in names])
