from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from lsp_server import index_owner
from lsp_server.features.suggestion import _TextSoFar
from lsp_server.protocol import AUTOMATIC
from lsp_server.repository_context import RepositoryContext
from lsp_server.rhythm import TypingRhythm
from lsp_server.settings import Settings
from lsp_server.workspace import IndexOptions
from tests.lsp_server.memory_editor import URI, ReplyError, Session, inline_params

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


# What the engine itself is made of, and all other settings: each with a value of its own.
OF_THE_ENGINE: dict[str, Any] = {
    "model": "other",
    "modelsDir": "/models",
    "threads": 1,
    "contextTokens": 1024,
    "prefixCacheMebibytes": 7,
    "kvType": "q8_0",
    "backend": "cuda",
    "speculation": "lookup",
    "treeBudget": 3,
    "drafter": "/models/drafter.gguf",
    "inProcess": True,
    "pflashScorer": "smollm2-135m",
    "pflashDiskMebibytes": 0,
}
OF_THE_SERVER: dict[str, Any] = {
    "pflashMode": "always",
    "pflashBudgetTokens": 64,
    "pflashKeepRatio": 0.5,
    "pflashPinned": ["*.md"],
    "pflashBanned": ["*.sql"],
    "enabled": False,
    "disabledLanguages": ["python"],
    "multiline": False,
    "maxTokens": 5,
    "temperature": 0.5,
    "prefixChars": 64,
    "suffixChars": 0,
    "nextEdit": "off",
    "debounceMs": 0,
    "latencyBudgetMs": 20,
    "prefetch": False,
    "candidates": 1,
    "deadlineMs": 500,
    "indexEnabled": False,
    "indexExclude": ["*.log"],
    "indexMaxFiles": 1,
}
LINES = "size = 2\n" + "".join(f"print({n}, size)\n" for n in range(20)) + "def add(a, b):\n"
PLACE = LINES.count("\n"), 4
WRITTEN = ["total = a + b\n    return total\n", "return a\n", "return b\n"]


class RecordedIndex:
    """Knows what it was made with, and finds nothing."""

    def __init__(self, options: IndexOptions, *_: object) -> None:
        self.options = options

    async def start(self, folders: object) -> None: ...

    async def stop(self) -> None: ...

    def update_document(self, *_: object) -> None: ...

    def status(self) -> None: ...


async def observed(monkeypatch: pytest.MonkeyPatch, chosen: dict[str, Any]) -> dict[str, Any]:
    """What a session whose client changes these settings asks of everything, and what it offers."""
    noted: list[tuple[str, object]] = []

    def note(owner: type, name: str, what: Callable[..., object], goes_on: bool = True) -> None:
        known = getattr(owner, name)

        def noting(self: object, *arguments: Any) -> Any:
            noted.append((name, what(*arguments)))
            return known(self, *arguments) if goes_on else None

        monkeypatch.setattr(owner, name, noting)

    session = Session({})
    with monkeypatch.context() as monkeypatch:
        monkeypatch.setattr(index_owner, "WorkspaceIndex", RecordedIndex)
        note(TypingRhythm, "wait_s", lambda now_s, longest_s: longest_s)
        note(_TextSoFar, "early", lambda generating, budget_s: budget_s)
        note(RepositoryContext, "_refresh", lambda *arguments: arguments[-1], goes_on=False)
        await session.begin()
        await session.server.reconfigure(chosen)
        offered = await _offered(session)
        index = session.server.index_owner.index
        await session.server.close()
    return {
        "engines": len(session.engines),
        "engine": (session.engine.config, session.in_process[-1]),
        "index": None if index is None else index.options,
        "noted": noted,
        "requests": session.engine.requests,
        "offered": offered,
    }


async def _offered(session: Session) -> list[object]:
    """To a user who types, to one who asks, and to one who has changed a name."""
    editor, answers = session.editor, []
    for trigger, uri in ((AUTOMATIC, URI), (1, URI + "i")):
        editor.open(f"{LINES}    \nafter = 1\n", uri=uri)
        session.engine.texts = list(WRITTEN)
        params = inline_params(*PLACE, uri=uri, trigger=trigger)
        answer = await editor.request("textDocument/inlineCompletion", params)
        answers.append([item["insertText"] for item in answer["items"]])
        await session.server.ahead.idle()
    where = {"start": {"line": 0, "character": 0}, "end": {"line": 0, "character": 4}}
    document = {"uri": URI, "version": 2}
    change = {"textDocument": document, "contentChanges": [{"range": where, "text": "width"}]}
    editor.notify("textDocument/didChange", change)
    params = {"textDocument": document, "position": where["start"], "context": {"diagnostics": []}}
    answers.append(await editor.request("textDocument/copilotInlineEdit", params))
    return answers


async def test_every_setting_is_tried_with_another_value(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await observed(monkeypatch, {}) == await observed(monkeypatch, {})
    defaults = msgspec.to_builtins(Settings())
    tried = OF_THE_ENGINE | OF_THE_SERVER
    assert tried.keys() == defaults.keys()
    assert [name for name, value in tried.items() if value == defaults[name]] == []


@pytest.mark.parametrize("name", OF_THE_ENGINE)
async def test_a_setting_of_the_engine_exchanges_it(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    before, after = Settings(), await observed(monkeypatch, {name: OF_THE_ENGINE[name]})
    assert after["engines"] == 2
    assert after["engine"] != (before.engine_config, before.in_process)


@pytest.mark.parametrize("name", OF_THE_SERVER)
async def test_any_other_setting_takes_effect_without_a_new_engine(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    before = await observed(monkeypatch, {})
    after = await observed(monkeypatch, {name: OF_THE_SERVER[name]})
    assert after["engines"] == 1
    assert after != before
