from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lsp_server.context_report import ContextReport
from lsp_server.protocol import FLASH_CONTEXT, FLASH_CONTEXT_PAGE
from tests.lsp_server.memory_editor import ReplyError, Session
from tests.lsp_server.workspace.indexing import write_files


@pytest.fixture
async def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Session]:
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(tmp_path / "cache"))
    write_files(tmp_path / "app", {"store.py": "class Store:\n    size = 1\n", "main.py": ""})
    session = Session()
    await session.begin()
    folder = {"uri": (tmp_path / "app").as_uri(), "name": "app"}
    change = {"event": {"added": [folder], "removed": []}}
    session.editor.notify("workspace/didChangeWorkspaceFolders", change)
    text = "from store import Store\n\ns = Store()\n"
    session.editor.open(text, uri=(tmp_path / "app" / "main.py").as_uri())
    owner = session.server.index_owner
    await session.editor.until(lambda: owner.index is not None and len(owner.index.files()) == 2)
    yield session
    await session.server.index_owner.close()


def params(folder: Path, line: int = 2, name: str = "main.py") -> dict[str, Any]:
    uri = (folder / "app" / name).as_uri()
    return {"textDocument": {"uri": uri}, "position": {"line": line, "character": 4}}


async def test_the_report_says_what_the_model_would_see(session: Session, tmp_path: Path) -> None:
    answer = await session.editor.request(FLASH_CONTEXT, params(tmp_path))
    report = msgspec.convert(answer, ContextReport)
    assert [span.path for span in report.spans] == ["store.py"]
    assert report.spans[0].text == "class Store:\n    size = 1\n"
    assert report.mode == "auto"


async def test_a_page_shows_the_same_report(session: Session, tmp_path: Path) -> None:
    answer = await session.editor.request(FLASH_CONTEXT_PAGE, params(tmp_path))
    report = msgspec.convert(answer["report"], ContextReport)
    assert [span.path for span in report.spans] == ["store.py"]
    assert answer["html"].startswith("<!DOCTYPE html>")
    assert "<title>Context at main.py:3:5</title>" in answer["html"]
    assert "class Store:" in answer["html"]


async def test_the_next_completion_is_shown_the_repository(session: Session, tmp_path: Path):
    where = {**params(tmp_path), "context": {"triggerKind": 1}}
    where["position"] = {"line": 3, "character": 0}
    method = "textDocument/inlineCompletion"
    await session.editor.request(method, where)
    await session.server.repository.idle()
    session.server.suggestions.clear()
    await session.editor.request(method, where)
    prompts = ["".join(part.text for part in r.prompt) for r in session.engine.requests]
    assert "class Store" not in prompts[0]
    assert "class Store" in prompts[-1]
    assert prompts[-1].endswith(prompts[0])


@pytest.mark.parametrize("wrong", [{"name": "unknown.py"}, {"line": -1}, {"line": 99}])
async def test_a_place_that_is_none_is_refused(
    session: Session, tmp_path: Path, wrong: dict[str, Any]
) -> None:
    with pytest.raises(ReplyError) as refused:
        await session.editor.request(FLASH_CONTEXT, params(tmp_path, **wrong))
    assert refused.value.code == -32602
