"""From a cursor in a real index to the block a prompt gets."""

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from engine.cancel import CancelToken
from engine.config import EngineConfig
from engine.engine import Engine
from lsp_server.context_choice import Choice, chosen, propose
from lsp_server.context_options import ContextOptions
from lsp_server.context_report import ContextReport
from lsp_server.workspace import WorkspaceIndex
from tests.lsp_server.workspace.indexing import indexed, query_at, write_files
from tests.tiny_gguf import write_tiny_gguf

FILES = {
    "store.py": "import os\n\n\nclass Store:\n    def put(self, key):\n        return key\n"
    + "".join(f"\n\ndef other_{i}(a):\n    return a + {i}\n" for i in range(30)),
    "shapes.py": "def draw_circle(radius, colour):\n    return radius\n",
    "notes.py": "# nothing of interest\nvalue = 3\n",
    "main.py": "",
}
MAIN = (
    "from store import Store\nfrom shapes import draw_circle\n\n"
    + "def used():\n    pass\n\n\n" * 200
    + "s = Store()\ndraw_circle(‸"
)
OPTIONS = ContextOptions(mode="always", budget_tokens=120, keep_ratio=1.0)


@pytest.fixture
async def index(tmp_path: Path) -> AsyncIterator[WorkspaceIndex]:
    write_files(tmp_path / "app", FILES)
    async with indexed(tmp_path / "app", cache=tmp_path / "cache") as index:
        yield index


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    path = write_tiny_gguf(tmp_path_factory.mktemp("model") / "tiny.gguf", "qwen2", "Q8_0")
    return Engine.load(EngineConfig(model=str(path), n_threads=1))


def choose(
    engine: Engine,
    index: WorkspaceIndex,
    folder: Path,
    marked: str = MAIN,
    options: ContextOptions = OPTIONS,
    shown: Choice | None = None,
) -> Choice:
    query = query_at(folder / "app", "main.py", marked, language="python")
    proposal = propose(index, query, "main.py", options)
    selection = engine.select(proposal.request, CancelToken())
    return chosen(proposal, selection, options, "app", shown.block if shown else None)


def paths(report: ContextReport, *, kept: bool) -> set[str]:
    return {span.path for span in report.spans if span.is_kept is kept}


async def test_definitions_of_imported_names_near_the_cursor_are_shown(engine, index, tmp_path):
    choice = choose(engine, index, tmp_path)
    reasons = {span.reason: span.text for span in choice.report.spans if span.is_kept}
    assert reasons["defines draw_circle"].startswith("def draw_circle(radius, colour):")
    assert "class Store:" in reasons["defines Store"]
    shown = {file.path: file.text for file in choice.block.files}
    assert "def draw_circle(radius, colour):" in shown["shapes.py"]
    assert choice.report.kept_tokens <= OPTIONS.budget_tokens


async def test_the_report_accounts_for_every_line_that_was_looked_at(engine, index, tmp_path):
    report = choose(engine, index, tmp_path).report
    whole = "".join(span.text for span in report.spans if span.path == "store.py")
    assert len(whole) > 100
    assert FILES["store.py"].startswith(whole)
    assert report.n_scored >= 2
    assert set(report.milliseconds) >= {"index", "keys", "query", "attention", "total"}


async def test_the_document_itself_is_shown_only_beyond_its_windows(engine, index, tmp_path):
    report = choose(engine, index, tmp_path).report
    own = [span for span in report.spans if span.path == "main.py"]
    n_hidden = MAIN[: MAIN.index("‸") - OPTIONS.max_prefix_chars].count("\n")
    assert own
    assert max(span.first_line + span.n_lines for span in own) <= n_hidden


async def test_files_that_were_shown_stay_where_they_were(engine, index, tmp_path):
    first = choose(engine, index, tmp_path)
    again = choose(engine, index, tmp_path, shown=first)
    assert again.block == first.block
    more = ContextOptions(mode="always", budget_tokens=400, keep_ratio=1.0)
    grown = choose(engine, index, tmp_path, options=more, shown=first)
    old = [file for file in grown.block.files if file in first.block.files]
    assert list(grown.block.files[: len(old)]) == old


async def test_pinned_files_come_first_and_banned_ones_never(engine, index, tmp_path):
    options = ContextOptions(mode="always", budget_tokens=60, pinned=("notes.*",), keep_ratio=1.0)
    report = choose(engine, index, tmp_path, options=options).report
    assert "notes.py" in paths(report, kept=True)
    assert "pinned" in {span.reason for span in report.spans}
    options = ContextOptions(mode="always", banned=("sto*.py",), keep_ratio=1.0)
    report = choose(engine, index, tmp_path, options=options).report
    assert "store.py" not in paths(report, kept=True) | paths(report, kept=False)


async def test_line_ends_of_other_systems_lose_no_lines(engine, tmp_path):
    write_files(tmp_path / "app", {"dos.py": "a = 1\r\nb = 2\r\n", "mac.py": "def c():\r  d = 3\r"})
    async with indexed(tmp_path / "app", cache=tmp_path / "cache") as index:
        options = ContextOptions(mode="always", keep_ratio=1.0, pinned=("*.py",))
        choice = choose(engine, index, tmp_path, "x = ‸", options)
    shown = {file.path: file.text for file in choice.block.files}
    assert shown == {"dos.py": "a = 1\nb = 2\n", "mac.py": "def c():\n  d = 3\n"}


async def test_a_broken_pattern_spoils_no_other(
    engine: Engine, index: WorkspaceIndex, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    wrong = msgspec.structs.replace(OPTIONS, banned=("!", "store.py"), pinned=("!", "notes.py"))
    report = choose(engine, index, tmp_path, options=wrong).report
    assert "store.py" not in paths(report, kept=True) | paths(report, kept=False)
    assert "notes.py" in paths(report, kept=True)
    assert "pattern '!' of pflashBanned was ignored" in caplog.text
