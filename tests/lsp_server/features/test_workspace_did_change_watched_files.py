from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.lsp_server.memory_editor import ReplyError, Session
from tests.lsp_server.workspace.indexing import write_files

WATCHES = {"workspace": {"didChangeWatchedFiles": {"dynamicRegistration": True}}}
REGISTER = "client/registerCapability"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_files(tmp_path / "app", {"a.py": "def alpha(): pass\n"})
    return tmp_path / "app"


async def begin(new_session: Callable[..., Session], folder: Path, **capabilities: Any) -> Session:
    session = new_session(indexEnabled=True)
    session.server.folders.change([], [])
    await session.begin(**capabilities)
    session.editor.notify(
        "workspace/didChangeWorkspaceFolders",
        {
            "event": {
                "added": [{"uri": folder.as_uri(), "name": "app"}],
                "removed": [{"uri": "file:///work/app", "name": "app"}],
            }
        },
    )
    await session.editor.until(lambda: n_files(session) == 1)
    return session


def n_files(session: Session) -> int:
    status = session.server.index_owner.status
    return -1 if status is None or status.is_building else status.n_files


async def test_a_client_that_can_watch_is_asked_to(
    new_session: Callable[..., Session], folder: Path
) -> None:
    session = await begin(new_session, folder, **WATCHES)
    [asked] = session.editor.notified(REGISTER)
    [registration] = asked["registrations"]
    assert registration["method"] == "workspace/didChangeWatchedFiles"
    assert registration["registerOptions"]["watchers"] == [{"globPattern": "**/*"}]
    write_files(folder, {"b.py": "def beta(): pass\n"})
    change = {"uri": (folder / "b.py").as_uri(), "type": 1}
    session.editor.notify("workspace/didChangeWatchedFiles", {"changes": [change]})
    await session.editor.until(lambda: n_files(session) == 2)
    stats = await session.editor.request("flash/stats")
    assert (stats["index"]["files"], stats["index"]["isBuilding"]) == (2, False)
    status = await session.editor.request("flash/status")
    assert status["index"]["chunks"] == 2


@pytest.mark.parametrize("answer", [None, ReplyError(-32601, "no")])
async def test_another_client_makes_the_server_look_by_itself(
    new_session: Callable[..., Session], folder: Path, answer: Any
) -> None:
    session = await begin(new_session, folder)
    assert session.editor.notified(REGISTER) == []
    session.editor.open("x = 1\n", uri=(folder / "a.py").as_uri())
    write_files(folder, {"b.py": "def beta(): pass\n"})
    saved = {"textDocument": {"uri": (folder / "a.py").as_uri()}}
    session.editor.notify("textDocument/didSave", saved)
    await session.editor.until(lambda: n_files(session) == 2)


async def test_a_client_that_refuses_to_watch_is_not_relied_on(
    new_session: Callable[..., Session], folder: Path
) -> None:
    session = new_session(indexEnabled=True)
    session.editor.answers[REGISTER] = ReplyError(-32601, "no")
    await session.begin(**WATCHES)
    await session.editor.until(lambda: session.server.index_owner.status is not None)
    assert session.server.index_owner._chosen[0] is not None
    assert not session.server.index_owner._chosen[0].is_watched


async def test_without_an_index_nothing_is_watched(new_session: Callable[..., Session]) -> None:
    session = new_session()
    await session.begin(**WATCHES)
    await session.editor.request("flash/status")
    assert session.editor.notified(REGISTER) == []
    session.editor.notify("workspace/didChangeWatchedFiles", {"changes": [{"uri": "file:///a"}]})
    assert (await session.editor.request("flash/status"))["index"] is None
