from collections.abc import Callable
from typing import Any

import pytest

from tests.lsp_server.memory_editor import URI, Session

TEXT = "import os\n\n\ndef area(a, b):\n    return a * c\n"
CURSOR = {"start": {"line": 4, "character": 12}, "end": {"line": 4, "character": 12}}
PROBLEM = {
    "range": {"start": {"line": 4, "character": 15}, "end": {"line": 4, "character": 16}},
    "message": "undefined name 'c'",
    "severity": 1,
}
WORKSPACE = {"applyEdit": True, "workspaceEdit": {"documentChanges": True}}


def params(*problems: dict[str, Any], **context: Any) -> dict[str, Any]:
    return {
        "textDocument": {"uri": URI},
        "range": CURSOR,
        "context": {"diagnostics": list(problems), **context},
    }


async def begin(session: Session, **capabilities: Any) -> Session:
    await session.begin(**{"workspace": WORKSPACE, **capabilities})
    session.editor.open(TEXT)
    return session


async def titles(session: Session, *problems: dict[str, Any], **context: Any) -> list[str]:
    actions = await session.editor.request("textDocument/codeAction", params(*problems, **context))
    return [action["title"] for action in actions]


async def test_what_can_be_done_where_the_cursor_is(new_session: Callable[..., Session]) -> None:
    session = await begin(new_session())
    assert await titles(session, PROBLEM) == [
        "Fix with the model: undefined name 'c'",
        "Document `area`",
        "Write tests for `area`",
    ]


async def test_a_client_that_can_ask_gets_the_edit_with_an_instruction(
    new_session: Callable[..., Session],
) -> None:
    session = await begin(new_session(), experimental={"flash": {"askEditCommand": "my.ask"}})
    actions = await session.editor.request("textDocument/codeAction", params())
    [ask] = [a for a in actions if a["command"]["command"] == "my.ask"]
    assert ask["command"]["arguments"] == [{"uri": URI, "range": CURSOR, "version": 1}]


@pytest.mark.parametrize(
    ("only", "n_actions"),
    [(["quickfix"], 1), (["refactor"], 2), (["refactor.rewrite"], 2), (["source"], 0), ([""], 3)],
)
async def test_only_the_kinds_asked_for(
    new_session: Callable[..., Session], only: list[str], n_actions: int
) -> None:
    session = await begin(new_session())
    assert len(await titles(session, PROBLEM, only=only)) == n_actions


async def test_an_action_runs_as_it_was_offered(new_session: Callable[..., Session]) -> None:
    session = await begin(new_session())
    session.editor.answers["workspace/applyEdit"] = {"applied": True}
    actions = await session.editor.request("textDocument/codeAction", params(PROBLEM))
    session.engine.text = "def area(a, b):\n    return a * b"
    assert await session.editor.request("workspace/executeCommand", actions[0]["command"]) is None
    assert any("undefined name 'c'" in p.text for p in session.engine.requests[-1].prompt)
    session.engine.text = 'def area(a, b):\n    """The area."""\n    return a * c'
    await session.editor.request("workspace/executeCommand", actions[1]["command"])
    session.engine.text = "def test_area():\n    assert area(2, 3) == 6"
    await session.editor.request("workspace/executeCommand", actions[2]["command"])
    applied = session.editor.notified("workspace/applyEdit")
    texts = [p["edit"]["documentChanges"][0]["edits"][0]["newText"] for p in applied]
    assert texts == [
        "    return a * b\n",
        '    """The area."""\n',
        "\n\ndef test_area():\n    assert area(2, 3) == 6\n",
    ]


async def test_nothing_is_offered_that_could_not_be_done(
    new_session: Callable[..., Session],
) -> None:
    for session in (
        await begin(new_session(), workspace={}),
        await begin(new_session(model="slow")),
        await begin(new_session(enabled=False)),
    ):
        assert await titles(session, PROBLEM) == []
