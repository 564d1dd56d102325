from collections.abc import Callable
from typing import Any

import pytest

from tests.lsp_server.memory_editor import URI, Session


def params(line: int, character: int, uri: str = URI) -> dict[str, Any]:
    return {"textDocument": {"uri": uri}, "position": {"line": line, "character": character}}


async def test_an_item_replaces_the_word_before_the_cursor(session: Session) -> None:
    session.engine.text = "urn a + b\n"
    session.editor.open("# 😀\ndef add(a, b):\n    ret\n")
    result = await session.editor.request("textDocument/completion", params(2, 7))
    [item] = result["items"]
    assert result["isIncomplete"]
    assert item["textEdit"]["newText"] == item["filterText"] == "return a + b"
    assert item["textEdit"]["range"] == {
        "start": {"line": 2, "character": 4},
        "end": {"line": 2, "character": 7},
    }


@pytest.mark.parametrize(
    ("encoding", "start", "end"), [("utf-8", 17, 20), ("utf-16", 13, 15), ("utf-32", 11, 13)]
)
async def test_positions_are_in_the_negotiated_encoding(
    new_session: Callable[..., Session], encoding: str, start: int, end: int
) -> None:
    session = new_session()
    session.prepare = lambda engine: setattr(engine, "text", "sumé(a)")
    await session.begin(general={"positionEncodings": [encoding]})
    session.editor.open("x = '😀😀' + sé")
    result = await session.editor.request("textDocument/completion", params(0, end))
    [item] = result["items"]
    where = item["textEdit"]["range"]
    assert (where["start"]["character"], where["end"]["character"]) == (start, end)


async def test_a_long_text_has_a_short_label(session: Session) -> None:
    session.engine.text = "if a:\n        return b\n    return a\n"
    session.editor.open("def f(a, b):\n    \n")
    result = await session.editor.request("textDocument/completion", params(1, 4))
    [item] = result["items"]
    assert item["label"] == "if a:…"
    assert item["documentation"]["value"].startswith("if a:\n")


@pytest.mark.parametrize("uri", [URI + "x", "untitled:nothing"])
async def test_nothing_to_offer_is_an_empty_list(session: Session, uri: str) -> None:
    result = await session.editor.request("textDocument/completion", params(1, 4, uri))
    assert result["items"] == []


@pytest.mark.parametrize(("inline", "is_announced"), [({}, False), (None, True)])
async def test_it_is_announced_only_to_clients_without_ghost_text(
    new_session: Callable[..., Session], inline: Any, is_announced: bool
) -> None:
    capabilities = {} if inline is None else {"inlineCompletion": inline}
    result = await new_session().begin(textDocument=capabilities)
    assert ("completionProvider" in result["capabilities"]) == is_announced
    assert result["capabilities"]["inlineCompletionProvider"] is not None
