from pathlib import Path

import pytest
from msgspec.structs import replace

from engine.config import EngineConfig
from engine.errors import RequestError
from engine.request import GenerateRequest, ModelInfo
from lsp_server.capsule import (
    Capsule,
    Latest,
    causes,
    make_capsule,
    read_capsule,
    replay,
    write_capsule,
)
from lsp_server.completion import Completion, CompletionOptions, complete
from lsp_server.prompt import CompletionInput
from tests.lsp_server.scripted_engine import INFO, ScriptedEngine
from tests.lsp_server.test_completion import ready_engine

CONFIG = EngineConfig(model="any")
AT = CompletionInput(prefix="def add(a, b):\n    ", suffix="\n", language_id="python", path="a.py")


@pytest.fixture
def info(tmp_path: Path) -> ModelInfo:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"weights")
    return replace(INFO, path=str(path), backend="cpu (avx2)")


async def recorded(info: ModelInfo, *, with_text: bool) -> tuple[Capsule, GenerateRequest]:
    done = await complete(ready_engine("return a + b\n"), AT, CompletionOptions(document="d"))
    assert done.request is not None
    latest = Latest(AT, done)
    return make_capsule(latest, info, CONFIG, "1.2", with_text=with_text), done.request


def engine_saying(text: str) -> ScriptedEngine:
    return ready_engine(text)


@pytest.mark.parametrize("with_text", [False, True])
async def test_a_capsule_survives_its_file(
    info: ModelInfo, tmp_path: Path, with_text: bool
) -> None:
    capsule, _ = await recorded(info, with_text=with_text)
    path = tmp_path / "c.json"
    write_capsule(capsule, path)
    assert read_capsule(path) == capsule
    assert ("return a + b" in path.read_text()) is with_text
    assert ("def add" in path.read_text()) is with_text


async def test_the_same_completion_has_no_differences(info: ModelInfo) -> None:
    capsule, request = await recorded(info, with_text=True)
    assert causes(capsule, info, CONFIG) == []
    engine = engine_saying("return a + b\n")
    assert await replay(engine, capsule, AT, request) == []
    assert engine.requests[0].max_tokens == capsule.n_tokens
    assert engine.requests[0].deadline_ms is None


async def test_what_differs_is_named(info: ModelInfo) -> None:
    capsule, request = await recorded(info, with_text=True)
    found = await replay(engine_saying("return b\n"), capsule, AT, request)
    assert [(d.what, d.is_cause) for d in found] == [
        ("text of the tokens", False),
        ("offered text", False),
    ]
    engine = engine_saying("return a + b\n")
    engine.tokens, engine.prompt_tokens = [4, 6], [1, 9, 3]
    prompt, tokens = await replay(engine, capsule, AT, request)
    assert (prompt.what, prompt.recorded, prompt.found) == ("prompt from id 1", "[2, 3]", "[9, 3]")
    assert (tokens.what, tokens.is_cause) == ("tokens from id 1", False)


async def test_hashes_alone_tell_a_difference_without_its_place(info: ModelInfo) -> None:
    capsule, request = await recorded(info, with_text=False)
    engine = engine_saying("return a + b\n")
    engine.tokens = [4, 6]
    [difference] = await replay(engine, capsule, AT, request)
    assert difference.what == "tokens"


async def test_tokens_beyond_the_recorded_ones_do_not_matter(info: ModelInfo) -> None:
    capsule, request = await recorded(info, with_text=True)
    engine = engine_saying("return a + b\n")
    engine.tokens = [4, 5]
    assert await replay(engine, capsule, AT, request) == []


async def test_another_model_cache_or_arithmetic_is_a_possible_cause(info: ModelInfo) -> None:
    capsule, _ = await recorded(info, with_text=False)
    Path(info.path).write_bytes(b"other weights")
    other = replace(info, backend="cpu (portable)")
    found = causes(capsule, other, EngineConfig(model="any", kv_type="q8_0"))
    assert [d.what for d in found] == ["model file (SHA-256)", "type of the KV cache", "kernels"]
    assert all(d.is_cause for d in found)
    Path(info.path).write_bytes(b"weights")
    assert causes(capsule, replace(info, backend="cpu (avx512vnni)"), CONFIG) == []


def test_a_completion_without_the_model_is_nothing_to_save(info: ModelInfo) -> None:
    latest = Latest(AT, Completion(text="", skipped_reason="in-word"))
    with pytest.raises(RequestError, match="in-word"):
        make_capsule(latest, info, CONFIG, "1.2", with_text=True)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"format": 1, "x": 2}'])
def test_a_file_that_is_no_capsule_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "c.json"
    path.write_bytes(content)
    with pytest.raises(RequestError, match="no capsule"):
        read_capsule(path)


async def test_a_capsule_of_another_format_is_refused(info: ModelInfo, tmp_path: Path) -> None:
    capsule, _ = await recorded(info, with_text=False)
    path = tmp_path / "c.json"
    write_capsule(replace(capsule, format=9), path)
    with pytest.raises(RequestError, match="format 9"):
        read_capsule(path)
