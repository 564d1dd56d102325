import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from engine.client import EngineState
from engine.errors import EngineBusyError, EngineDiedError, ModelNotFoundError
from tests.lsp_server.conftest import Ask
from tests.lsp_server.memory_editor import URI, ReplyError, Session, inline_params

INLINE = "textDocument/inlineCompletion"


def texts(result: Any) -> list[str]:
    return [item["insertText"] for item in result["items"]]


async def test_text_is_offered_at_the_cursor(session: Session, ask_inline: Ask) -> None:
    cursor = {"line": 1, "character": 4}
    [item] = (await ask_inline())["items"]
    assert item["insertText"] == "return a + b"
    assert item["range"] == {"start": cursor, "end": cursor}
    assert item["command"]["command"] == "flash.completionAccepted"


async def test_the_model_sees_both_sides_of_the_cursor(session: Session, ask_inline: Ask) -> None:
    session.editor.open("before = 1\nx = \nafter = 2\n")
    await ask_inline(1, 4)
    [request] = session.engine.requests
    plain = [part.text for part in request.prompt if not part.is_special]
    assert plain == ["before = 1\nx = ", "\nafter = 2\n"]
    assert request.document == URI


async def test_settings_shape_the_request(new_session: Callable[..., Session]) -> None:
    session = new_session(maxTokens=9, temperature=0.5, deadlineMs=700, prefixChars=64)
    await session.begin()
    session.editor.open("x = 1\n" * 50)
    await session.editor.request(INLINE, inline_params(50, 0))
    [request] = session.engine.requests
    assert (request.max_tokens, request.deadline_ms) == (9, 700)
    assert request.sampling.temperature == 0.5
    assert max(len(part.text) for part in request.prompt) <= 64


@pytest.mark.parametrize(
    ("selected", "offered"),
    [
        ({"start": 4, "end": 6, "text": "print"}, ["print('x')"]),
        ({"start": 6, "end": 6, "text": "int"}, ["int('x')"]),
        ({"start": 4, "end": 5, "text": "print"}, []),  # does not reach the cursor
        ({"start": 4, "end": 7, "text": "print"}, []),  # goes past it
        ({"start": 7, "end": 6, "text": "print"}, []),  # ends before it begins
    ],
)
async def test_what_the_popup_has_selected_is_taken_as_accepted(
    session: Session, ask_inline: Ask, selected: dict[str, Any], offered: list[str]
) -> None:
    session.engine.text = "('x')"
    session.editor.open("def f():\n    pr\n")
    where = {name: {"line": 1, "character": selected[name]} for name in ("start", "end")}
    info = {"range": where, "text": selected["text"]}
    context = {"triggerKind": 1, "selectedCompletionInfo": info}
    result = await ask_inline(1, 6, context=context)
    assert texts(result) == offered
    if offered:
        assert result["items"][0]["range"] == where
        assert any(p.text.endswith(selected["text"]) for p in session.engine.requests[0].prompt)


async def test_copilots_own_parameters_are_tolerated(session: Session, ask_inline: Ask) -> None:
    result = await ask_inline(
        textDocument={"uri": URI, "version": 1},
        formattingOptions={"tabSize": 4, "insertSpaces": True},
        partialResultToken="t",
    )
    assert texts(result) == ["return a + b"]


async def test_a_request_for_another_version_is_stale(session: Session, ask_inline: Ask) -> None:
    assert await ask_inline(textDocument={"uri": URI, "version": 0}) == {"items": []}
    assert session.engine.requests == []
    assert session.server.activity.outcomes == {"stale-version": 1}


async def test_a_result_for_text_that_changed_meanwhile_is_dropped(session: Session) -> None:
    session.engine.go_on.clear()
    _, answer = session.editor.begin(INLINE, inline_params())
    await session.editor.until(lambda: len(session.engine.requests) == 1)
    session.editor.edit("x", 0, 0, version=2)
    session.engine.go_on.set()
    assert await answer == {"items": []}
    assert session.server.activity.outcomes == {"stale-version": 1}


async def test_a_document_closed_meanwhile_gets_nothing(session: Session) -> None:
    session.engine.go_on.clear()
    _, answer = session.editor.begin(INLINE, inline_params())
    await session.editor.until(lambda: len(session.engine.requests) == 1)
    session.editor.notify("textDocument/didClose", {"textDocument": {"uri": URI}})
    assert await answer == {"items": []}
    assert session.engine.n_cancelled == 1


async def test_the_newest_request_of_a_document_wins(session: Session, ask_inline: Ask) -> None:
    session.engine.go_on.clear()
    older = [session.editor.begin(INLINE, inline_params())[1] for _ in range(5)]
    await session.editor.until(lambda: len(session.engine.requests) >= 1)
    newest = asyncio.ensure_future(ask_inline())
    await session.editor.until(lambda: all(answer.done() for answer in older))
    session.engine.go_on.set()
    assert texts(await newest) == ["return a + b"]
    assert [answer.result() for answer in older] == [{"items": []}] * 5
    assert session.server.activity.outcomes == {"superseded": 5, "offered": 1}


async def test_fast_typing_reaches_the_engine_once(new_session: Callable[..., Session]) -> None:
    session = new_session(debounceMs=20)
    await session.begin()
    session.editor.open("x = \n")
    asked = [session.editor.begin(INLINE, inline_params(0, 4, trigger=2))[1] for _ in range(10)]
    results = await asyncio.gather(*asked)
    assert [len(result["items"]) for result in results] == [0] * 9 + [1]
    assert len(session.engine.requests) == 1


async def test_a_cancelled_request_is_cancelled_in_the_engine(session: Session) -> None:
    session.engine.go_on.clear()
    request_id, answer = session.editor.begin(INLINE, inline_params())
    await session.editor.until(lambda: len(session.engine.requests) == 1)
    session.editor.notify("$/cancelRequest", {"id": request_id})
    with pytest.raises(ReplyError) as refused:
        await answer
    assert refused.value.code == -32800
    assert session.engine.n_cancelled == 1


async def test_while_the_model_loads_the_request_waits_for_it(
    new_session: Callable[..., Session],
) -> None:
    session = new_session(model="slow")
    await session.begin()
    session.editor.open("x = \n")
    _, answer = session.editor.begin(INLINE, inline_params(0, 4))
    await asyncio.sleep(0.01)
    assert not answer.done()
    session.engine.enter(EngineState.READY)
    assert len((await answer)["items"]) == 1


@pytest.mark.parametrize("says_initialized", [True, False])
async def test_a_load_that_outlasts_the_deadline_means_no_offer(
    new_session: Callable[..., Session], says_initialized: bool
) -> None:
    session = new_session(model="slow", deadlineMs=50)
    await session.editor.request("initialize", {"capabilities": {}})
    if says_initialized:
        session.editor.notify("initialized", {})
    session.editor.open("x = \n")
    assert await session.editor.request(INLINE, inline_params(0, 4)) == {"items": []}
    assert session.server.activity.outcomes == {"still-loading": 1}


async def test_without_a_model_nothing_is_offered_and_the_server_lives(
    new_session: Callable[..., Session],
) -> None:
    session = new_session()
    session.prepare = lambda engine: setattr(
        engine, "load_error", ModelNotFoundError("nil", "no such file")
    )
    await session.begin()
    session.editor.open("x = \n")
    assert await session.editor.request(INLINE, inline_params(0, 4)) == {"items": []}
    assert session.server.activity.outcomes == {"no-engine": 1}


async def test_an_engine_that_dies_costs_one_clear_error(session: Session, ask_inline: Ask) -> None:
    session.engine.generate_error = EngineDiedError("killed by signal 9")
    with pytest.raises(ReplyError, match="killed by signal 9") as refused:
        await ask_inline()
    assert refused.value.code == -32803
    session.engine.generate_error = None
    assert texts(await ask_inline()) == ["return a + b"]


async def test_a_busy_engine_means_no_offer(session: Session, ask_inline: Ask) -> None:
    session.engine.generate_error = EngineBusyError(8)
    assert await ask_inline() == {"items": []}
    assert session.server.activity.outcomes == {"too-busy": 1}


async def test_a_bug_of_ours_is_an_internal_error_without_paths(
    session: Session, ask_inline: Ask
) -> None:
    session.engine.generate_error = RuntimeError("/home/user/secret.py exploded")
    with pytest.raises(ReplyError, match="RuntimeError") as refused:
        await ask_inline()
    assert refused.value.code == -32603
    assert "secret" not in str(session.editor.received)


@pytest.mark.parametrize(
    ("text", "line", "character"),
    [
        ("x = \n", 0, 2**31 - 1),
        ("x = \n", 0, 10**30),
        ("y" * 3_000_000, 0, 1_500_000),
        ("😀" * 1_000_000 + " = ", 0, 2**31 - 1),
        ("x = 1\n" * 200_000 + "y = ", 200_000, 4),
        ("a\x00b = ", 0, 6),
        ("", 0, 0),
        ("\r", 1, 0),
        ("\u2028\u0085\x0c = ", 0, 9),
    ],
)
async def test_odd_documents_and_positions_are_answered(
    session: Session, ask_inline: Ask, text: str, line: int, character: int
) -> None:
    session.editor.open(text)
    result = await ask_inline(line, character)
    assert len(result["items"]) <= 1
    for request in session.engine.requests:
        assert sum(len(part.text) for part in request.prompt) < 5000


@pytest.mark.parametrize("line", [2, 99, 2**31 - 1, 10**30])
async def test_a_line_outside_the_text_is_a_clear_error(
    session: Session, ask_inline: Ask, line: int
) -> None:
    session.editor.open("x = \n")
    with pytest.raises(ReplyError, match=f"line {line} .* 0 to 1") as refused:
        await ask_inline(line, 0)
    assert refused.value.code == -32602


async def test_an_unknown_document_gets_nothing_and_a_reason_in_the_log(
    session: Session, ask_inline: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    result = await ask_inline(uri="file:///never/opened.py")
    assert result == {"items": []}
    assert "file:///never/opened.py" in caplog.text
    assert "is not open" in caplog.text


async def test_untitled_documents_work(session: Session, ask_inline: Ask) -> None:
    session.editor.open("x = \n", uri="untitled:Untitled-1")
    assert len((await ask_inline(0, 4, uri="untitled:Untitled-1"))["items"]) == 1


@pytest.mark.parametrize(
    ("settings", "outcome"),
    [({"enabled": False}, "disabled"), ({"disabledLanguages": ["python"]}, "disabled-language")],
)
async def test_completions_can_be_switched_off(
    new_session: Callable[..., Session], settings: dict[str, Any], outcome: str
) -> None:
    session = new_session(**settings)
    await session.begin()
    session.editor.open("x = \n")
    assert await session.editor.request(INLINE, inline_params(0, 4)) == {"items": []}
    assert session.server.activity.outcomes == {outcome: 1}


@pytest.mark.parametrize(
    "params",
    [
        None,
        [],
        {},
        {"textDocument": {"uri": URI}},
        {"textDocument": {"uri": 5}, "position": {"line": 0, "character": 0}},
        {"textDocument": {"uri": URI}, "position": {"line": -1, "character": 0}},
        {"textDocument": {"uri": URI}, "position": {"line": "0", "character": 0}},
        {"textDocument": {"uri": URI}, "position": {"line": 0.5, "character": 0}},
    ],
)
async def test_wrong_params_are_refused_and_never_met_with_silence(
    session: Session, params: Any
) -> None:
    with pytest.raises(ReplyError) as refused:
        await session.editor.request(INLINE, params)
    assert refused.value.code == -32602
