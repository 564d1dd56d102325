import json
import os
import sys
from pathlib import Path

import pytest

from lsp_server.cli_bench_peer import PeerError, find_python
from lsp_server.cli_bench_server import LlamaServer, PeerMode

# What the worker uses of xllamacpp, with prepared answers: the package itself is no dependency.
XLLAMACPP = """
import sys, time
from enum import IntEnum
from types import SimpleNamespace as Namespace

__version__ = "1.2"
common_speculative_type = IntEnum(
    "common_speculative_type",
    [f"COMMON_SPECULATIVE_TYPE_{n}" for n in ("NONE", "NGRAM_SIMPLE", "DRAFT_DFLASH", "COUNT")],
)


class CommonParams:
    def __init__(self):
        threads = lambda: Namespace(n_threads=0)
        self.model = Namespace(path="")
        self.cpuparams, self.cpuparams_batch = threads(), threads()
        draft = Namespace(
            cpuparams=threads(), cpuparams_batch=threads(), mparams=Namespace(path=""), n_max=3
        )
        self.speculative = Namespace(types=[], draft=draft, ngram_simple=Namespace(size_m=48))


class Server:
    def __init__(self, params):
        if params.speculative.draft.mparams.path == "bad.gguf":
            print("error loading model: key not found", file=sys.stderr, flush=True)
            raise RuntimeError("Failed to init server")
        self.params = params

    def handle_completions(self, request):
        speculative = self.params.speculative
        text = f"{speculative.types[0].name} {speculative.draft.n_max} {request['prompt']}"
        timings = {"prompt_ms": 1.0, "predicted_ms": 2.0, "predicted_n": request["n_predict"]}
        if request["prompt"] == [13]:
            print("GGML_ASSERT(lucky) failed", file=sys.stderr, flush=True)
            raise SystemExit(1)
        if speculative.types[0].name.endswith("DFLASH"):
            timings |= {"draft_n": 9, "draft_n_accepted": 4}
        return {"choices": [{"text": text}], "timings": timings}
"""


@pytest.fixture
def python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "xllamacpp.py").write_text(XLLAMACPP, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path) + os.pathsep + os.environ.get("PYTHONPATH", ""))
    return sys.executable


@pytest.mark.parametrize(
    ("text", "mode"), [("none", PeerMode("none")), ("draft-dflash=7", PeerMode("draft-dflash", 7))]
)
def test_a_mode_is_a_name_and_perhaps_a_number(text: str, mode: PeerMode) -> None:
    assert PeerMode.parse(text) == mode
    assert str(mode) == text


@pytest.mark.parametrize("text", ["", "=3", "none=", "none=x"])
def test_anything_else_is_no_mode(text: str) -> None:
    with pytest.raises(ValueError, match="expected NAME or NAME=N"):
        PeerMode.parse(text)


def test_an_interpreter_is_asked_for_the_module(python: str) -> None:
    assert find_python(python, "xllamacpp") == python
    with pytest.raises(PeerError, match="no module nothing_like_it"):
        find_python(python, "nothing_like_it")


def test_a_server_generates_and_gives_account(python: str) -> None:
    mode = PeerMode("draft-dflash", 7)
    with LlamaServer(python, "model.gguf", 2, 256, mode, Path("drafter.gguf")) as server:
        made = server.generate([5, 6], 10, ("```",))
    assert server.version == "xllamacpp 1.2"
    assert made.text == "COMMON_SPECULATIVE_TYPE_DRAFT_DFLASH 7 [5, 6]"
    assert (made.n_tokens, made.ms, made.n_drafted, made.n_accepted) == (10, 2.0, 9, 4)


def test_a_drafter_that_is_refused_is_an_error_with_the_reason(python: str) -> None:
    with pytest.raises(PeerError, match="Failed to init server\n.*key not found"):
        LlamaServer(python, "model.gguf", 1, 64, PeerMode("draft-dflash"), Path("bad.gguf"))


def test_a_mode_that_llama_cpp_does_not_have_is_named_with_those_it_has(python: str) -> None:
    with pytest.raises(PeerError, match="expected one of draft-dflash, ngram-simple, none"):
        LlamaServer(python, "model.gguf", 1, 64, PeerMode("magic"))
    with pytest.raises(PeerError, match="'none' has no limit to set, got 3"):
        LlamaServer(python, "model.gguf", 1, 64, PeerMode("none", 3))


def test_an_abort_is_an_error_with_what_was_printed(python: str) -> None:
    with LlamaServer(python, "model.gguf", 1, 64, PeerMode("none")) as server:
        with pytest.raises(PeerError, match=r"ended during 'generate'\n.*GGML_ASSERT"):
            server.generate([13], 4, ())
        with pytest.raises(PeerError, match="ended during"):
            server.generate([1], 4, ())
    assert json.dumps(server.pid)
