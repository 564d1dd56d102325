from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from engine import catalogue
from tests.lsp_server.memory_editor import URI, Session

NEXT = "textDocument/copilotInlineEdit"
TEXT = "size = 2\nprint(size)\n"
PROBLEM = {
    "range": {"start": {"line": 1, "character": 0}, "end": {"line": 1, "character": 1}},
    "message": "wrong",
}


def params(*problems: dict[str, Any], version: int | None = None) -> dict[str, Any]:
    document = {"uri": URI, "version": version}
    position = {"line": 0, "character": 5}
    return {
        "textDocument": document,
        "position": position,
        "context": {"diagnostics": list(problems)},
    }


async def editing(session: Session, text: str = TEXT) -> Session:
    """A session in which `size` was just renamed where it is defined."""
    await session.begin()
    session.editor.open(text)
    change = {
        "range": {"start": {"line": 0, "character": 0}, "end": {"line": 0, "character": 4}},
        "text": "width",
    }
    session.editor.notify(
        "textDocument/didChange",
        {"textDocument": {"uri": URI, "version": 2}, "contentChanges": [change]},
    )
    return session


async def test_a_repetition_is_offered_without_the_model(
    new_session: Callable[..., Session],
) -> None:
    session = await editing(new_session())
    [edit] = (await session.editor.request(NEXT, params(version=2)))["edits"]
    assert edit["text"] == "print(width)"
    assert edit["textDocument"] == {"uri": URI, "version": 2}
    assert edit["range"] == {
        "start": {"line": 1, "character": 0},
        "end": {"line": 1, "character": 11},
    }
    assert edit["command"]["title"] == "rename size to width"
    assert session.engine.requests == []
    session.editor.notify("textDocument/didShowInlineEdit", {"item": edit})
    assert await session.editor.request("workspace/executeCommand", edit["command"]) is None
    stats = await session.editor.request("flash/stats")
    assert stats["nextEdits"] == {"offered-repeat": 1, "shown": 1, "accepted": 1}


async def test_it_can_be_switched_off_and_another_version_is_stale(
    new_session: Callable[..., Session],
) -> None:
    for session, asked in (
        (await editing(new_session(nextEdit="off")), params()),
        (await editing(new_session(enabled=False)), params()),
        (await editing(new_session()), params(version=1)),
    ):
        assert await session.editor.request(NEXT, asked) == {"edits": []}


async def test_a_model_that_was_not_found_able_is_not_asked(
    new_session: Callable[..., Session], monkeypatch: Any
) -> None:
    text = "size = 2\n\nprint(3)\n"
    answer = "\nprint(4)"
    session = await editing(new_session(), text)
    session.engine.text = answer
    assert await session.editor.request(NEXT, params(PROBLEM)) == {"edits": []}
    assert session.engine.requests == []

    chosen = await editing(new_session(nextEdit="model"), text)
    chosen.engine.text = answer
    [edit] = (await chosen.editor.request(NEXT, params(PROBLEM)))["edits"]
    assert edit["text"] == "print(4)"
    assert len(chosen.engine.requests) == 3

    able = replace(catalogue.entries()[0], name="fake", next_edit=True)
    monkeypatch.setattr(catalogue, "_ENTRIES", (able,))
    known = await editing(new_session(), text)
    known.engine.text = answer
    assert len((await known.editor.request(NEXT, params(PROBLEM)))["edits"]) == 1


async def test_an_edit_of_a_text_that_changed_meanwhile_is_dropped(
    new_session: Callable[..., Session],
) -> None:
    session = await editing(new_session(nextEdit="model"), "size = 2\n\nprint(3)\n")
    session.engine.go_on.clear()
    _, answer = session.editor.begin(NEXT, params(PROBLEM))
    await session.editor.until(lambda: bool(session.engine.requests))
    session.editor.edit("x", 0, 0, version=3)
    session.engine.go_on.set()
    assert await answer == {"edits": []}
    assert session.server.activity.next_edits == {"stale-version": 1}
