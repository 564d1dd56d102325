import asyncio
from collections.abc import Callable

import pytest

from engine.request import BACKGROUND, FinishReason
from lsp_server.features.suggestion import Query, suggest
from lsp_server.protocol import AUTOMATIC, DocumentId, Position
from tests.lsp_server.conftest import Ask
from tests.lsp_server.memory_editor import URI, Session, inline_params

INLINE = "textDocument/inlineCompletion"


async def test_accepted_text_is_imagined_in_the_document(session: Session) -> None:
    session.engine.text = "(a)\n"
    session.editor.open("first = 1\nsecond = pri\n")
    query = Query(
        document=DocumentId(URI),
        position=Position(1, 12),
        inserted="print",
        replaced_from=Position(1, 9),
    )
    assert await suggest(session.server, query) == ("(a)",)
    texts = [p.text for p in session.engine.requests[0].prompt if not p.is_special]
    assert texts == ["first = 1\nsecond = print", "\n"]


async def test_a_document_is_named_by_its_path_in_the_workspace(session: Session) -> None:
    session.editor.open("x = \n", language_id="", uri="file:///work/app/src/main.c")
    query = Query(document=DocumentId("file:///work/app/src/main.c"), position=Position(0, 4))
    await suggest(session.server, query)
    assert session.server.folders.relative_path(query.document.uri) == "src/main.c"
    assert len(session.engine.requests) == 1


async def test_who_types_what_was_suggested_is_answered_without_the_model(
    session: Session, ask_inline: Ask
) -> None:
    await ask_inline()
    for n, char in enumerate("retu"):
        session.editor.edit(char, 1, 4 + n, version=2 + n)
    [item] = (await ask_inline(1, 8))["items"]
    assert item["insertText"] == "rn a + b"
    assert len(session.engine.requests) == 1
    assert session.server.activity.outcomes == {"offered": 1, "offered-from-cache": 1}


async def test_who_types_something_else_is_not(session: Session, ask_inline: Ask) -> None:
    await ask_inline()
    session.editor.edit("x", 1, 4, version=2)
    await ask_inline(1, 5)
    assert len(session.engine.requests) == 2


async def test_a_late_result_is_served_to_who_typed_what_it_predicts(
    session: Session, ask_inline: Ask
) -> None:
    session.engine.go_on.clear()
    _, late = session.editor.begin(INLINE, inline_params())
    await session.editor.until(lambda: len(session.engine.requests) == 1)
    session.editor.edit("r", 1, 4, version=2)
    session.engine.go_on.set()
    assert await late == {"items": []}
    [item] = (await ask_inline(1, 5))["items"]
    assert item["insertText"] == "eturn a + b"
    assert len(session.engine.requests) == 1


async def test_other_settings_suggest_something_else(session: Session, ask_inline: Ask) -> None:
    await ask_inline()
    session.editor.notify("workspace/didChangeConfiguration", {"settings": {"maxTokens": 8}})
    await session.editor.until(lambda: session.server.settings.max_tokens == 8)
    await ask_inline()
    assert len(session.engine.requests) == 2


async def test_one_who_asks_gets_texts_to_choose_from(new_session: Callable[..., Session]) -> None:
    session = new_session(candidates=3)
    await session.begin()
    session.editor.open("def add(a, b):\n    \n")
    session.engine.texts = ["return a + b\n", "return b + a\n", "return a + b\n", "pass\n"]
    result = await session.editor.request(INLINE, inline_params())
    assert [i["insertText"] for i in result["items"]] == ["return a + b", "return b + a", "pass"]
    seeds = [request.sampling.seed for request in session.engine.requests]
    temperatures = [request.sampling.temperature for request in session.engine.requests]
    assert seeds == [0, 1, 2, 3]
    assert temperatures[0] == 0 and all(t > 0 for t in temperatures[1:])
    # What was chosen from is served whole, and an automatic request needs only the best.
    again = await session.editor.request(INLINE, inline_params())
    assert [i["insertText"] for i in again["items"]] == ["return a + b", "return b + a", "pass"]
    automatic = await session.editor.request(INLINE, inline_params(trigger=2))
    assert len(automatic["items"]) == 1
    assert len(session.engine.requests) == 4


async def test_one_text_that_was_offered_by_itself_is_not_all_there_is_to_choose_from(
    new_session: Callable[..., Session],
) -> None:
    session = new_session(candidates=2)
    await session.begin()
    session.editor.open("def add(a, b):\n    \n")
    session.engine.texts = ["return a + b\n", "return a + b\n", "pass\n"]
    assert len((await session.editor.request(INLINE, inline_params(trigger=2)))["items"]) == 1
    assert len((await session.editor.request(INLINE, inline_params()))["items"]) == 2


async def test_a_model_that_always_says_the_same_is_not_asked_for_ever(
    new_session: Callable[..., Session],
) -> None:
    session = new_session(candidates=3)
    await session.begin()
    session.editor.open("def add(a, b):\n    \n")
    assert len((await session.editor.request(INLINE, inline_params()))["items"]) == 1
    assert len(session.engine.requests) == 5


LINES = "total = 0\n    for n in numbers:\n        total += n\n"
FUNCTION = "def add(numbers):\n    \n"


async def begin_slow(session: Session) -> None:
    session.engine.text, session.engine.n_lines_at_once = LINES, 1
    session.engine.finish_reason = FinishReason.LENGTH
    await session.server.reconfigure({"latencyBudgetMs": 20})
    session.editor.open(FUNCTION)


async def test_after_the_budget_whole_lines_are_offered_and_the_rest_is_there_on_acceptance(
    session: Session,
) -> None:
    await begin_slow(session)
    [item] = (await session.editor.request(INLINE, inline_params(trigger=AUTOMATIC)))["items"]
    assert item["insertText"] == "total = 0"
    session.engine.go_on_writing.set()
    await session.server.ahead.idle()
    session.editor.edit("total = 0", 1, 4, version=2)
    [item] = (await session.editor.request(INLINE, inline_params(1, 13, trigger=AUTOMATIC)))[
        "items"
    ]
    assert item["insertText"].startswith("\n    for n in numbers:")
    assert len(session.engine.requests) == 1


async def test_who_asks_gets_all_of_it(session: Session) -> None:
    await begin_slow(session)
    _, answer = session.editor.begin(INLINE, inline_params(trigger=1))
    await session.editor.until(lambda: len(session.engine.requests) == 1)
    await asyncio.sleep(0.05)
    assert not answer.done()
    session.engine.go_on_writing.set()
    [item] = (await answer)["items"]
    assert "for n in numbers" in item["insertText"]


async def test_another_question_ends_the_rest_of_a_text(session: Session) -> None:
    await begin_slow(session)
    await session.editor.request(INLINE, inline_params(trigger=AUTOMATIC))
    session.editor.edit("x", 1, 4, version=2)
    session.engine.n_lines_at_once = 1000
    await session.editor.request(INLINE, inline_params(1, 5, trigger=AUTOMATIC))
    assert session.engine.n_cancelled == 1


async def test_what_follows_an_accepted_text_is_there_already() -> None:
    session = Session({"prefetch": True})
    await session.begin()
    session.engine.texts = ["total = 0\n", "    return total\n"]
    session.editor.open(FUNCTION)
    await session.editor.request(INLINE, inline_params(trigger=AUTOMATIC))
    await session.server.ahead.idle()
    assert [request.priority for request in session.engine.requests] == [0, BACKGROUND]
    session.editor.edit("total = 0", 1, 4, version=2)
    [item] = (await session.editor.request(INLINE, inline_params(1, 13, trigger=AUTOMATIC)))[
        "items"
    ]
    assert "return total" in item["insertText"]
    assert session.server.activity.outcomes == {"offered": 1, "offered-from-cache": 1}
    await session.server.engine_owner.close()


async def test_a_slow_reader_is_shown_less_after_the_cursor(session: Session) -> None:
    session.editor.open("x = \n" + "y = 1\n" * 200)
    session.engine.prompt_tokens = list(range(101))
    await session.editor.request(INLINE, inline_params(0, 4, trigger=AUTOMATIC))
    pace = session.server.pace
    assert pace.ms_per_token == pytest.approx(0.1)
    assert pace.suffix_chars(512, 250) == 512
    pace.ms_per_token = 2.0
    assert pace.suffix_chars(512, 250) == 128
    pace.ms_per_token = 1.0
    assert pace.suffix_chars(512, 250) == 256
