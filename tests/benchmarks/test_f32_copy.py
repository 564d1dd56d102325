from pathlib import Path

import gguf
import numpy as np
import pytest

from benchmarks.references.f32_copy import write_f32_copy
from tests.reference_model import ReferenceModel
from tests.tiny_gguf import write_tiny_gguf

TOKENS = [100, 101, 102, 10, 257, 97]


@pytest.mark.parametrize("tied_head", [False, True])
@pytest.mark.parametrize("quant", ["Q4_K", "Q8_0"])
def test_a_copy_is_the_same_model_in_f32(tied_head: bool, quant: str, tmp_path: Path) -> None:
    source = write_tiny_gguf(tmp_path / "source.gguf", "qwen2", quant, tied_head=tied_head)
    write_f32_copy(source, tmp_path / "copy.gguf")
    expected = ReferenceModel(source).logits(TOKENS)
    np.testing.assert_array_equal(ReferenceModel(tmp_path / "copy.gguf").logits(TOKENS), expected)

    original, copy = gguf.GGUFReader(source), gguf.GGUFReader(tmp_path / "copy.gguf")
    assert list(copy.fields) == list(original.fields)
    quantized = [t.name for t in copy.tensors if t.tensor_type != gguf.GGMLQuantizationType.F32]
    assert quantized == ([] if tied_head else ["token_embd.weight"])
