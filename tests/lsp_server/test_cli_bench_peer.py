import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from lsp_server.cli_bench_peer import LlamaCpp, PeerError, find_python
from tests.reference_model import ReferenceModel
from tests.tiny_gguf import write_tiny_gguf

HAS_LLAMA_CPP = importlib.util.find_spec("llama_cpp") is not None
needs_llama_cpp = pytest.mark.skipif(not HAS_LLAMA_CPP, reason="needs the extra `bench`")

TOKENS = [100, 101, 102, 10, 257, 97]


@pytest.fixture
def tiny_model(tmp_path: Path) -> Path:
    return write_tiny_gguf(tmp_path / "tiny.gguf", "llama")


def test_this_interpreter_is_used_if_it_has_llama_cpp() -> None:
    assert find_python(None) == (sys.executable if HAS_LLAMA_CPP else None)


def test_an_interpreter_that_is_not_there_is_named() -> None:
    with pytest.raises(PeerError, match="could not run /nowhere/python"):
        find_python("/nowhere/python")


@pytest.mark.skipif(HAS_LLAMA_CPP, reason="this interpreter has llama_cpp")
def test_an_interpreter_without_llama_cpp_is_refused() -> None:
    with pytest.raises(PeerError, match="no module llama_cpp"):
        find_python(sys.executable)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a program that ends at once")
def test_a_process_that_ends_is_an_error_and_not_a_hang(tiny_model: Path) -> None:
    with pytest.raises(PeerError, match="ended during 'load'"):
        LlamaCpp("/bin/true", tiny_model, 1, 64)


@needs_llama_cpp
def test_llama_cpp_computes_what_the_oracle_does(tiny_model: Path, tmp_path: Path) -> None:
    with LlamaCpp(sys.executable, tiny_model, 1, 64) as peer:
        peer.write_logits(TOKENS, tmp_path / "logits.npy")
        assert peer.prefill_ms(TOKENS) > 0
        assert peer.decode_ms(TOKENS, 4) > 0
        with pytest.raises(PeerError, match="tokenize"):
            peer.tokenize(None)  # pyright: ignore[reportArgumentType]
    logits = np.load(tmp_path / "logits.npy")
    assert np.abs(logits - ReferenceModel(tiny_model).logits(TOKENS)).max() < 0.02


@needs_llama_cpp
def test_a_file_that_is_no_model_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "no.gguf").write_bytes(b"not a model")
    with pytest.raises(PeerError, match="could not load"):
        LlamaCpp(sys.executable, tmp_path / "no.gguf", 1, 64)
