import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.lsp_server.memory_editor import URI, ReplyError, Session

EXECUTE = "workspace/executeCommand"
TEXT = "def f():\n    a = 1\n    b = 2\n    return a\n"
LINES = {"start": {"line": 1, "character": 4}, "end": {"line": 2, "character": 9}}
FIRST_CHANGED = {"start": {"line": 2, "character": 0}, "end": {"line": 3, "character": 0}}


def command(**more: Any) -> dict[str, Any]:
    argument = {"uri": URI, "range": LINES, "instruction": "double b", **more}
    return {"command": "flash.edit", "arguments": [argument]}


@pytest.fixture
async def editing(new_session: Callable[..., Session]) -> Session:
    session = new_session()
    capabilities = {"documentChanges": True, "changeAnnotationSupport": {}}
    await session.begin(workspace={"workspaceEdit": capabilities, "applyEdit": True})
    session.editor.open(TEXT)
    session.engine.text = "a = 1\nb = 4"
    return session


async def begin_and_hold(session: Session, **more: Any) -> "asyncio.Future[Any]":
    """Begin an edit whose answer waits."""
    session.engine.go_on.clear()
    n_before = len(session.engine.requests)
    _, answer = session.editor.begin(EXECUTE, command(**more))
    await session.editor.until(lambda: len(session.engine.requests) > n_before)
    return answer


async def test_the_answer_is_an_edit_of_the_lines_that_change(editing: Session) -> None:
    edit = await editing.editor.request(EXECUTE, command())
    [change] = edit["documentChanges"]
    assert change["textDocument"] == {"uri": URI, "version": 1}
    [text_edit] = change["edits"]
    assert (text_edit["range"], text_edit["newText"]) == (FIRST_CHANGED, "    b = 4\n")
    assert edit["changeAnnotations"][text_edit["annotationId"]]["label"] == "flash-lsp: double b"


async def test_the_answer_is_told_as_it_comes(editing: Session) -> None:
    await editing.editor.request(EXECUTE, command(id="mine"))
    events = editing.editor.notified("flash/edit")
    assert {(event["id"], event["uri"]) for event in events} == {("mine", URI)}
    assert [event["kind"] for event in events] == ["delta", "delta", "done"]
    assert "".join(event["text"] for event in events[:2]) == "    a = 1\n    b = 4"
    assert events[2]["text"] == "    a = 1\n    b = 4\n"


async def test_a_token_of_the_client_gets_the_partial_results(editing: Session) -> None:
    await editing.editor.request(EXECUTE, {**command(), "partialResultToken": "t"})
    progress = editing.editor.notified("$/progress")
    assert [p["value"]["kind"] for p in progress if p["token"] == "t"] == ["delta", "delta", "done"]
    assert editing.editor.notified("flash/edit") == []


async def test_a_client_that_only_executes_commands_has_the_edit_applied(editing: Session) -> None:
    editing.editor.answers["workspace/applyEdit"] = {"applied": True}
    assert await editing.editor.request(EXECUTE, command(apply=True)) is None
    [params] = editing.editor.notified("workspace/applyEdit")
    assert params["edit"]["documentChanges"][0]["edits"][0]["newText"] == "    b = 4\n"
    assert editing.editor.notified("flash/edit")[-1]["kind"] == "done"


async def test_an_edit_the_editor_refuses_is_not_done(editing: Session) -> None:
    editing.editor.answers["workspace/applyEdit"] = {"applied": False}
    with pytest.raises(ReplyError, match="did not apply"):
        await editing.editor.request(EXECUTE, command(apply=True))
    assert editing.editor.notified("flash/edit")[-1]["kind"] == "failed"


async def test_an_answer_that_is_no_edit_is_refused_with_its_reason(editing: Session) -> None:
    editing.engine.text = "a = (1\nb = 2"
    with pytest.raises(ReplyError, match="no valid code") as refused:
        await editing.editor.request(EXECUTE, command())
    assert refused.value.code == -32803
    failed = editing.editor.notified("flash/edit")[-1]
    assert (failed["kind"], failed["code"]) == ("failed", "broken-syntax")
    assert "no valid code" in failed["reason"]


async def test_changes_elsewhere_move_the_edit(editing: Session) -> None:
    answer = await begin_and_hold(editing)
    editing.editor.edit("import os\n", 0, 0, version=2)
    editing.engine.go_on.set()
    [change] = (await answer)["documentChanges"]
    assert change["textDocument"]["version"] == 2
    assert change["edits"][0]["range"]["start"]["line"] == 3


async def test_changed_lines_make_the_edit_stale(editing: Session) -> None:
    answer = await begin_and_hold(editing)
    editing.editor.edit("x", 1, 4, version=2)
    editing.engine.go_on.set()
    with pytest.raises(ReplyError, match="changed while"):
        await answer
    assert editing.editor.notified("flash/edit")[-1]["code"] == "stale"


async def test_an_edit_of_another_version_is_stale_at_once(editing: Session) -> None:
    with pytest.raises(ReplyError, match="changed already"):
        await editing.editor.request(EXECUTE, command(version=0))
    assert editing.engine.requests == []


async def test_a_newer_edit_of_the_document_takes_the_older_ones_place(editing: Session) -> None:
    older = await begin_and_hold(editing, id="older")
    newer = await begin_and_hold(editing, id="newer")
    with pytest.raises(ReplyError, match="newer edit"):
        await older
    editing.engine.go_on.set()
    assert (await newer)["documentChanges"]
    codes = {e["id"]: e.get("code") for e in editing.editor.notified("flash/edit")}
    assert codes["older"] == "superseded"


async def test_a_cancelled_edit_is_cancelled_in_the_engine(editing: Session) -> None:
    editing.engine.go_on.clear()
    request_id, answer = editing.editor.begin(EXECUTE, command())
    await editing.editor.until(lambda: bool(editing.engine.requests))
    editing.editor.notify("$/cancelRequest", {"id": request_id})
    with pytest.raises(ReplyError) as refused:
        await answer
    assert refused.value.code == -32800
    assert editing.engine.n_cancelled == 1
    assert editing.editor.notified("flash/edit")[-1]["code"] == "cancelled"


async def test_a_completion_does_not_end_an_edit(editing: Session) -> None:
    answer = await begin_and_hold(editing)
    documents = {request.document for request in editing.engine.requests}
    assert URI not in documents
    editing.engine.go_on.set()
    assert await answer


async def test_the_end_of_a_text_without_line_end_can_be_edited(editing: Session) -> None:
    editing.editor.open("a = 1\nb = 2")
    where = {"start": {"line": 0, "character": 0}, "end": {"line": 1, "character": 5}}
    edit = await editing.editor.request(EXECUTE, command(range=where))
    [text_edit] = edit["documentChanges"][0]["edits"]
    assert text_edit["range"]["end"] == {"line": 1, "character": 5}
    assert text_edit["newText"] == "b = 4"


@pytest.mark.parametrize(
    "arguments", [None, [], [{}], [1], [command()["arguments"][0] | {"instruction": ""}]]
)
async def test_arguments_are_checked(editing: Session, arguments: Any) -> None:
    with pytest.raises(ReplyError) as refused:
        await editing.editor.request(EXECUTE, {"command": "flash.edit", "arguments": arguments})
    assert refused.value.code == -32602


async def test_lines_and_documents_must_be_there(editing: Session) -> None:
    for more in (
        {"uri": "file:///no"},
        {"range": {"start": {"line": 99, "character": 0}, "end": {"line": 99, "character": 0}}},
    ):
        with pytest.raises(ReplyError) as refused:
            await editing.editor.request(EXECUTE, command(**more))
        assert refused.value.code == -32602
        assert editing.editor.notified("flash/edit")[-1]["kind"] == "failed"
