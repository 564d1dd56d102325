import pytest

from engine.config import EngineConfig
from engine.errors import ContextOverflowError
from engine.request import FinishReason
from lsp_server.edit import EditOptions, rewrite
from lsp_server.prompt.edit_output import EditRefusal, EditRefusedError
from tests.lsp_server.prompt.edit_corpus import selected
from tests.lsp_server.scripted_engine import ScriptedEngine
from tests.lsp_server.test_completion import SmallContext, ready_engine

INP = selected("def f():\n‸    a = 1\n    b = 2\n‸    return a\n", instruction="double b")


async def test_an_answer_replaces_the_selection_and_is_shown_as_it_comes() -> None:
    engine = ready_engine("a = 1\nb = 4")
    shown: list[str] = []
    edit = await rewrite(engine, INP, EditOptions(document="d"), shown.append)
    assert edit.replacement == "    a = 1\n    b = 4\n"
    assert "".join(shown) == "    a = 1\n    b = 4"
    [request] = engine.requests
    assert request.references[0] == "a = 1\nb = 2\n"
    assert (request.document, request.priority) == ("d", 1)
    assert any("double b" in part.text for part in request.prompt)


async def test_what_did_not_end_is_refused() -> None:
    engine = ready_engine("a = 1\n")
    engine.finish_reason = FinishReason.LENGTH
    with pytest.raises(EditRefusedError) as refused:
        await rewrite(engine, INP, EditOptions())
    assert refused.value.reason is EditRefusal.TRUNCATED


async def test_surroundings_too_long_for_the_context_are_halved_until_they_fit() -> None:
    engine = SmallContext(EngineConfig(model="any"), "x = 2")
    await engine.start()
    engine.limit = 1200
    inp = selected("above\n" * 400 + "‸x = 1\n‸" + "below\n" * 400)
    assert (await rewrite(engine, inp, EditOptions())).replacement == "x = 2\n"
    engine.limit = 10
    with pytest.raises(ContextOverflowError):
        await rewrite(engine, inp, EditOptions())


async def test_the_engine_alone_says_when_the_answer_ends() -> None:
    engine = ScriptedEngine(EngineConfig(model="any"), "a = 1\n" * 50)
    await engine.start()
    edit = await rewrite(engine, INP, EditOptions())
    assert edit.replacement == "    a = 1\n" * 50
