"""Blocks document by document: ready at once, renewed in the background."""

import asyncio
from collections.abc import Iterable

import pytest
from pathspec import GitIgnoreSpec

from engine.client import EngineState
from engine.config import EngineConfig
from engine.errors import EngineError
from engine.request import BACKGROUND, Selection, SelectRequest
from lsp_server import repository_context
from lsp_server.context_options import ContextOptions
from lsp_server.repository_context import RepositoryContext, Situation
from lsp_server.workspace import Candidate, Chunk, CursorQuery, Signature
from lsp_server.workspace.chunking import content_hash
from tests.lsp_server.scripted_engine import ScriptedEngine

URI = "file:///app/main.py"


class FakeIndex:
    """Proposes the files it is given, each as one chunk."""

    def __init__(self, **files: str) -> None:
        self.files = files

    def candidates(self, query: CursorQuery, max_chunks: int = 64) -> list[Candidate]:
        return [Candidate(self.chunk(name), 1.0, ("near",)) for name in self.files]

    def chunk(self, name: str) -> Chunk:
        text = self.files[name]
        path, n_lines = f"{name}.py", text.count("\n")
        uri = f"file:///app/{path}"
        return Chunk(path, uri, 0, n_lines, text, content_hash(text), "python")

    def signatures(self, names: Iterable[str], exclude_uri: str | None = None) -> list[Signature]:
        return []

    def chunks_like(self, spec: GitIgnoreSpec, max_chunks: int) -> list[Chunk]:
        return []


class Bench:
    def __init__(self) -> None:
        self.engine = ScriptedEngine(EngineConfig(model="fake"))
        self.engine.enter(EngineState.READY)
        self.index: FakeIndex | None = FakeIndex(store="class Store:\n    pass\n")
        self.options = ContextOptions(mode="auto")
        self.context = RepositoryContext(self._engine, lambda: self.index, lambda: self.options)

    async def _engine(self) -> ScriptedEngine:
        return self.engine

    def block(self, line: int = 0):
        text = "import store\n" + "\n" * line + "s = "
        return self.context.block(situation(text))


def situation(text: str, uri: str = URI) -> Situation:
    query = CursorQuery(uri=uri, text=text, offset=len(text), language="python")
    return Situation(query, "main.py", "app")


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(repository_context, "_LEAST_AGE_S", 0.0)
    return Bench()


async def test_the_first_completion_does_not_wait_and_a_later_one_has_the_block(bench: Bench):
    assert bench.block() is None
    await bench.context.idle()
    block = bench.block()
    assert block is not None
    assert [file.path for file in block.files] == ["store.py"]
    assert bench.context.counts.n_adopted == 1


async def test_choosing_and_reading_are_done_in_the_background(bench: Bench):
    bench.block()
    await bench.context.idle()
    assert [request.priority for request in bench.engine.selections] == [BACKGROUND]
    (read,) = bench.engine.requests
    assert (read.priority, read.max_tokens) == (BACKGROUND, 1)
    assert "class Store" in "".join(part.text for part in read.prompt)


async def test_typing_in_the_same_place_chooses_nothing_anew(bench: Bench):
    bench.block()
    await bench.context.idle()
    for _ in range(5):
        bench.block()
        await bench.context.idle()
    assert len(bench.engine.selections) == 1


async def test_a_block_stays_where_another_would_be_hardly_better(bench: Bench):
    bench.block()
    await bench.context.idle()
    first = bench.block()
    bench.block(line=40)
    await bench.context.idle()
    assert bench.context.counts.n_kept == 1
    assert bench.block(line=40) is first
    assert len(bench.engine.requests) == 1


async def test_an_edited_file_is_shown_as_it_is_now(bench: Bench):
    bench.block()
    await bench.context.idle()
    bench.index = FakeIndex(store="class Store:\n    size = 1\n")
    bench.block(line=40)
    await bench.context.idle()
    block = bench.block(line=40)
    assert block is not None
    assert "size = 1" in block.files[0].text


async def test_a_failed_choice_is_tried_again_at_the_same_place(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    async def fail(request: SelectRequest) -> Selection:
        raise EngineError("the engine was restarted")

    with monkeypatch.context() as patch:
        patch.setattr(bench.engine, "select", fail)
        bench.block()
        await bench.context.idle()
    assert bench.context.counts.n_failed == 1
    assert bench.block() is None
    await bench.context.idle()
    assert bench.block() is not None


@pytest.mark.parametrize("why", ["off", "no index"])
async def test_there_is_no_block_where_none_is_wanted(bench: Bench, why: str):
    if why == "off":
        bench.options = ContextOptions(mode="off")
    else:
        bench.index = None
    assert bench.block() is None
    await bench.context.idle()
    assert bench.engine.selections == []
    report = (await bench.context.choose(situation("s = "))).report
    assert report.abstained


async def test_a_failure_costs_the_block_and_nothing_else(bench: Bench):
    async def fail(request: SelectRequest) -> Selection:
        raise EngineError("lost")

    bench.engine.select = fail  # type: ignore[method-assign]
    bench.block()
    await bench.context.idle()
    assert bench.block(line=40) is None
    assert bench.context.counts.n_failed >= 1
    with pytest.raises(EngineError):
        await bench.context.choose(situation("s = "))


async def test_closing_a_document_ends_its_work(bench: Bench):
    bench.engine.go_on.clear()
    bench.block()
    await asyncio.sleep(0.02)
    bench.context.drop(URI)
    await asyncio.sleep(0.02)
    assert bench.context.report(URI) is None
    assert bench.engine.n_cancelled == 1


async def test_only_the_latest_documents_are_remembered(bench: Bench):
    for i in range(40):
        bench.context.block(situation("s = ", uri=f"file:///app/{i}.py"))
    await bench.context.idle()
    assert bench.context.report("file:///app/0.py") is None
    assert bench.context.report("file:///app/39.py") is not None
