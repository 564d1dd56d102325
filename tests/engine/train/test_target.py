"""The target in PyTorch computes what the engine computes."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from engine.config import EngineConfig  # noqa: E402
from engine.errors import UnsupportedModelError  # noqa: E402
from engine.gguf.reader import GgufFile  # noqa: E402
from engine.kv_blocks import BlockPool  # noqa: E402
from engine.loading import load_model  # noqa: E402
from engine.train.target import load_target  # noqa: E402
from tests.engine.tiny_model import TinyModel, random_tokens  # noqa: E402
from tests.engine.train.toy import CPU  # noqa: E402
from tests.tiny_gguf import write_tiny_gguf  # noqa: E402


@pytest.mark.parametrize("architecture", ["qwen2", "llama"])
@pytest.mark.parametrize("quant", ["F32", "Q8_0", "Q4_K"])
def test_its_logits_are_the_exact_engines(tmp_path: Path, architecture: str, quant: str) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf", architecture, quant, seed=3)
    config = EngineConfig(model=str(path), is_exact=True, n_threads=1, prefix_cache_bytes=2**20)
    with GgufFile(path) as file:
        loaded = load_model(file, config)
    tokens = random_tokens(40)
    expected = torch.from_numpy(TinyModel(loaded, BlockPool(loaded.n_blocks)).logits(tokens))

    logits = load_target(path, CPU, torch.float32).logits(torch.tensor([tokens]))[0]

    # Keys and values are f16 in the engine's cache: 2^-11 each, over a few layers.
    assert torch.linalg.norm(logits - expected) < 5e-3 * torch.linalg.norm(expected)


def test_features_are_the_outputs_of_the_tapped_layers(tmp_path: Path) -> None:
    target = load_target(
        write_tiny_gguf(tmp_path / "t.gguf", "qwen2", n_layers=3), CPU, torch.float32
    )
    ids = torch.tensor([random_tokens(20)])

    last = target.features(ids, (0, 2))[..., target.h.n_embd :]

    assert torch.allclose(target.head(last[0]), target.logits(ids)[0])


def test_other_architectures_are_refused(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf", "llama")
    path.write_bytes(path.read_bytes().replace(b"llama", b"gemma"))

    with pytest.raises(UnsupportedModelError, match="gemma"):
        load_target(path, CPU, torch.float32)
