from collections.abc import Callable
from typing import Any

import pytest

from tests.lsp_server.memory_editor import ReplyError, Session

CHANGED = "workspace/didChangeConfiguration"
PULLS = {"configuration": True}


async def test_initial_options_are_settings(new_session: Callable[..., Session]) -> None:
    session = new_session()
    await session.begin({"maxTokens": 5, "model": "other"})
    assert session.server.settings.max_tokens == 5
    assert session.engine.config.model == "other"


async def test_a_client_that_can_be_asked_is_asked(new_session: Callable[..., Session]) -> None:
    session = new_session()
    session.editor.answers["workspace/configuration"] = [{"maxTokens": 6}]
    await session.begin({"maxTokens": 5, "multiline": False}, workspace=PULLS)
    assert session.server.settings.max_tokens == 6
    assert not session.server.settings.multiline
    session.editor.answers["workspace/configuration"] = [{"maxTokens": 7}]
    session.editor.notify(CHANGED, {"settings": None})
    await session.editor.until(lambda: session.server.settings.max_tokens == 7)


@pytest.mark.parametrize("answer", [None, [], [None], {}, 5, ReplyError(-32601, "no")])
async def test_a_client_that_has_no_answer_keeps_what_it_started_with(
    new_session: Callable[..., Session], answer: Any
) -> None:
    session = new_session()
    session.editor.answers["workspace/configuration"] = answer
    await session.begin({"maxTokens": 5}, workspace=PULLS)
    assert session.server.settings.max_tokens == 5


async def test_a_client_may_push_its_settings(session: Session) -> None:
    session.editor.notify(CHANGED, {"settings": {"flashLsp": {"maxTokens": 8}}})
    await session.editor.until(lambda: session.server.settings.max_tokens == 8)
    assert len(session.engines) == 1


async def test_the_command_line_wins(new_session: Callable[..., Session]) -> None:
    session = new_session(maxTokens=3)
    await session.begin({"maxTokens": 5})
    session.editor.notify(CHANGED, {"settings": {"maxTokens": 8, "debounceMs": 1}})
    session.editor.notify(CHANGED, {"settings": {"temperature": 1}})
    await session.editor.until(lambda: session.server.settings.temperature == 1)
    assert session.server.settings.max_tokens == 3


async def test_another_model_exchanges_the_engine(session: Session) -> None:
    session.editor.notify(CHANGED, {"settings": {"model": "other"}})
    await session.editor.until(lambda: len(session.engines) == 2)
    assert session.engines[0].state == "closed"
    assert session.engine.config.model == "other"
    await session.editor.until(lambda: session.server.status.state == "ready")


async def test_warnings_name_the_setting(
    session: Session, caplog: pytest.LogCaptureFixture
) -> None:
    session.editor.notify(CHANGED, {"settings": {"maxTokns": 8}})
    await session.editor.until(lambda: "maxTokns" in caplog.text)
    assert "did you mean 'maxTokens'" in caplog.text


async def test_switching_completions_off_is_a_state(session: Session) -> None:
    session.editor.received.clear()
    session.editor.notify(CHANGED, {"settings": {"enabled": False}})
    await session.editor.until(lambda: bool(session.editor.notified("didChangeStatus")))
    assert session.editor.notified("flash/didChangeStatus")[-1]["state"] == "disabled"
    assert session.editor.notified("didChangeStatus")[-1]["kind"] == "Inactive"
