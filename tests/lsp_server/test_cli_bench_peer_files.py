from pathlib import Path

import gguf
import numpy as np
import pytest

from engine.config import EngineConfig
from engine.engine import Engine
from engine.gguf.reader import GgufFile
from lsp_server.cli_bench_peer_files import tappable_target, with_vocabulary
from tests.tiny_gguf import write_tiny_gguf

TOKENS = [100, 101, 102, 10, 257, 97]


def logits(path: Path) -> np.ndarray:
    return Engine.load(EngineConfig(model=str(path), n_threads=1)).logits(TOKENS)


@pytest.mark.parametrize("quant", ["F32", "Q8_0", "Q4_K"])
def test_a_qwen2_file_becomes_a_llama_file_that_computes_the_same(
    tmp_path: Path, quant: str
) -> None:
    model = write_tiny_gguf(tmp_path / "tiny.gguf", "qwen2", quant)
    (tmp_path / "copies").mkdir()
    copy = tappable_target(model, tmp_path / "copies")
    with GgufFile(copy) as file:
        assert file.architecture == "llama"
        assert file.metadata["llama.block_count"] == 2
        assert not any(key.startswith("qwen2.") for key in file.metadata)
    ours, theirs = logits(model), logits(copy)
    assert np.abs(ours - theirs).max() < 1e-3 * np.abs(ours).max()


def test_any_other_file_is_used_as_it_is(tmp_path: Path) -> None:
    model = write_tiny_gguf(tmp_path / "tiny.gguf", "llama")
    assert tappable_target(model, tmp_path) == model
    assert with_vocabulary(model, model, tmp_path) == model


def test_a_drafter_without_a_vocabulary_gets_one_of_its_targets_length(tmp_path: Path) -> None:
    target = write_tiny_gguf(tmp_path / "tiny.gguf", "qwen2")
    writer = gguf.GGUFWriter(tmp_path / "drafter.gguf", "dflash")
    writer.add_array("dflash.target_layers", [1, 2])
    writer.add_uint32("tokenizer.ggml.mask_token_id", 7)
    writer.add_tensor("fc.weight", np.arange(6, dtype=np.float32).reshape(2, 3))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    (tmp_path / "copies").mkdir()
    copy = with_vocabulary(tmp_path / "drafter.gguf", target, tmp_path / "copies")
    with GgufFile(copy) as file, GgufFile(target) as target_file:
        assert file.architecture == "dflash"
        assert file.require_list("dflash.target_layers", int) == [1, 2]
        assert file.require("tokenizer.ggml.mask_token_id", int) == 7
        n_vocab = len(target_file.require_list("tokenizer.ggml.tokens", str))
        assert file.require_list("tokenizer.ggml.tokens", str) == [""] * n_vocab
        assert np.array_equal(file.data("fc.weight").view(np.float32).ravel(), np.arange(6))
