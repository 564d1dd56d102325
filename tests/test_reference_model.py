"""The oracle itself, held against llama.cpp's logits of the same tiny models."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.references.reference_file import TINY_TOKENS
from tests.reference_model import ReferenceModel
from tests.tiny_gguf import ARCHITECTURES, write_tiny_gguf

REFERENCES = Path(__file__).parent / "data" / "references"

# llama.cpp keeps keys and values in f16, and the reference is stored in f16.
TOLERANCE = 0.02


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_oracle_has_the_logits_of_llama_cpp(architecture: str, tmp_path: Path) -> None:
    model = write_tiny_gguf(tmp_path / "tiny.gguf", architecture)
    logits = ReferenceModel(model).logits(TINY_TOKENS)
    with np.load(REFERENCES / "tiny.npz") as file:
        expected = file[architecture].astype(np.float64)
    assert logits.shape == expected.shape
    assert np.abs(logits - expected).max() < TOLERANCE


def test_a_row_of_the_oracle_depends_on_nothing_after_it(tmp_path: Path) -> None:
    model = ReferenceModel(write_tiny_gguf(tmp_path / "tiny.gguf", "qwen2"))
    tokens = TINY_TOKENS
    np.testing.assert_allclose(model.logits(tokens)[:5], model.logits(tokens[:5]), atol=1e-9)


def test_an_unknown_architecture_is_refused(tmp_path: Path) -> None:
    model = write_tiny_gguf(tmp_path / "tiny.gguf", "llama")
    model.write_bytes(model.read_bytes().replace(b"llama", b"llamb"))
    with pytest.raises(ValueError, match="llamb"):
        ReferenceModel(model)
