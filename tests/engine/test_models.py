"""Every architecture against the float64 oracle, which shares no code with the engine."""

from pathlib import Path

import numpy as np
import pytest

from engine.config import EngineConfig
from engine.errors import ModelFormatError, UnsupportedModelError
from engine.gguf.reader import GgufFile
from engine.kv_blocks import BlockPool
from engine.loading import load_model
from engine.session import Session
from tests.engine.tiny_model import random_tokens
from tests.reference_model import ReferenceModel
from tests.tiny_gguf import write_tiny_gguf

# Keys and values are rounded to f16 (5e-4 of each); all else is f32.
TOLERANCE = 1e-3
# 8-bit activations cost about one percent of a linear's output; two layers of seven add up.
INT8_TOLERANCE = 0.15


def logits(path: Path, tokens: list[int], *, is_exact: bool) -> np.ndarray:
    config = EngineConfig(model=str(path), n_threads=2, is_exact=is_exact)
    with GgufFile(path) as file:
        loaded = load_model(file, config)
    session = Session(loaded.model, loaded.kv, BlockPool(loaded.n_blocks), loaded.n_ctx)
    return session.append(tokens, n_logits=len(tokens)).logits.copy()


def rms(error: np.ndarray) -> float:
    return float(np.sqrt((error**2).mean()))


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
@pytest.mark.parametrize(
    "quant", ["F32", "BF16", "Q4_0", "Q5_1", "Q8_0", "IQ4_NL", "Q4_K", "Q5_K", "Q6_K"]
)
def test_logits_equal_the_float64_oracle(tmp_path: Path, architecture: str, quant: str) -> None:
    path = write_tiny_gguf(tmp_path / "m.gguf", architecture, quant)
    tokens = random_tokens(60)
    expected = ReferenceModel(path).logits(tokens)
    exact = logits(path, tokens, is_exact=True)
    assert rms(exact - expected) < TOLERANCE * expected.std()
    fast = logits(path, tokens, is_exact=False)
    assert rms(fast - expected) < INT8_TOLERANCE * expected.std()


@pytest.mark.parametrize("tied_head", [True, False])
def test_a_tied_head_reuses_the_embedding_table(tmp_path: Path, tied_head: bool) -> None:
    path = write_tiny_gguf(tmp_path / "m.gguf", "qwen2", "F32", tied_head=tied_head)
    tokens = random_tokens(10)
    expected = ReferenceModel(path).logits(tokens)
    assert rms(logits(path, tokens, is_exact=True) - expected) < TOLERANCE * expected.std()


@pytest.mark.parametrize("quant", ["Q2_K", "Q3_K", "IQ4_XS"])
def test_other_weight_types_are_converted_with_a_notice(tmp_path: Path, quant: str) -> None:
    path = write_tiny_gguf(tmp_path / "m.gguf", "llama", quant)
    with GgufFile(path) as file:
        loaded = load_model(file, EngineConfig(model=str(path), n_threads=1))
    assert any(quant in notice and "Q8_0" in notice for notice in loaded.notices)
    tokens = random_tokens(20)
    expected = ReferenceModel(path).logits(tokens)
    found = logits(path, tokens, is_exact=True)
    # Q8_0 stores the dequantized weights to about 0.4 % of a block's largest.
    assert rms(found - expected) < 0.05 * expected.std()


def test_an_unknown_architecture_is_named_with_the_known_ones(tmp_path: Path) -> None:
    import gguf

    path = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(path, "mamba")
    writer.add_tensor("token_embd.weight", np.zeros((4, 8), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with (
        GgufFile(path) as file,
        pytest.raises(UnsupportedModelError, match="'mamba' is not supported; supported: llama"),
    ):
        load_model(file, EngineConfig(model=str(path)))


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "m.gguf", "llama", "F32")
    data = path.read_bytes().replace(b"blk.1.ffn_up.weight", b"blk.1.ffn_xx.weight")
    path.write_bytes(data)
    with (
        GgufFile(path) as file,
        pytest.raises(ModelFormatError, match=r"tensor 'blk.1.ffn_up.weight' is missing"),
    ):
        load_model(file, EngineConfig(model=str(path)))
