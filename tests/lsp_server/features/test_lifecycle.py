from collections.abc import Callable
from typing import Any

import pytest

from tests.lsp_server.memory_editor import ReplyError, Session


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (None, "utf-16"),
        (["utf-8", "utf-16"], "utf-8"),
        (["utf-32"], "utf-32"),
        (["ebcdic"], "utf-16"),
        ("utf-8", "utf-16"),
    ],
)
async def test_the_position_encoding_is_negotiated(
    new_session: Callable[..., Session], offered: Any, chosen: str
) -> None:
    session = new_session()
    result = await session.begin(general={"positionEncodings": offered})
    assert result["capabilities"]["positionEncoding"] == chosen
    assert session.server.documents.encoding == chosen


async def test_what_is_announced_is_what_is_handled(new_session: Callable[..., Session]) -> None:
    result = await new_session().begin()
    announced = result["capabilities"]
    assert announced["textDocumentSync"]["openClose"]
    assert announced["textDocumentSync"]["change"] == 2
    assert announced["inlineCompletionProvider"] is not None
    assert announced["workspace"]["workspaceFolders"]["supported"]
    assert set(announced["executeCommandProvider"]["commands"]) == {
        "flash.completionAccepted",
        "flash.edit",
        "flash.nextEditAccepted",
        "flash.restart",
        "flash.saveCapsule",
    }
    assert "notebookDocumentSync" not in announced
    assert result["serverInfo"]["name"] == "flash-lsp"


@pytest.mark.parametrize(
    "capabilities",
    [{"general": 5, "textDocument": [], "window": None}, {"workspace": {"configuration": "yes"}}],
)
async def test_odd_capabilities_do_not_stop_the_server(
    new_session: Callable[..., Session], capabilities: dict[str, Any]
) -> None:
    session = new_session()
    await session.begin(**capabilities)
    assert (await session.editor.request("flash/status"))["state"] == "ready"


async def test_the_engine_starts_after_initialized_and_not_before(
    new_session: Callable[..., Session],
) -> None:
    session = new_session()
    await session.editor.request("initialize", {"capabilities": {}})
    assert (await session.editor.request("flash/status"))["state"] == "starting"
    assert session.engines == []
    session.editor.notify("initialized", {})
    await session.editor.until(lambda: bool(session.engines))


async def test_after_shutdown_requests_are_refused(session: Session) -> None:
    assert await session.editor.request("shutdown") is None
    with pytest.raises(ReplyError) as refused:
        await session.editor.request("flash/status")
    assert refused.value.code == -32600
