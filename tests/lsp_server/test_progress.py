from collections.abc import Callable
from typing import Any

import pytest

from engine.client import EngineState
from lsp_server.workspace import IndexStatus
from tests.lsp_server.memory_editor import ReplyError, Session

LOADING = EngineState.LOADING
WELCOME = {"window": {"workDoneProgress": True}}


def shown(session: Session) -> list[tuple[Any, ...]]:
    values = [params["value"] for params in session.editor.notified("$/progress")]
    return [(v["kind"], v.get("percentage")) for v in values]


async def test_a_load_is_one_progress_with_rising_percentages(
    new_session: Callable[..., Session],
) -> None:
    session = new_session(model="slow")
    await session.begin(**WELCOME)
    await session.editor.until(lambda: shown(session) == [("begin", 0)])
    for fraction in (0.2, 0.201, 0.1, 0.7):
        session.engine.enter(LOADING, "reading", fraction)
    session.engine.enter(EngineState.READY, "ready")
    assert shown(session) == [("begin", 0), ("report", 20), ("report", 70), ("end", None)]
    tokens = {params["token"] for params in session.editor.notified("$/progress")}
    assert len(tokens) == 1


async def test_without_the_clients_support_there_is_none(
    new_session: Callable[..., Session],
) -> None:
    session = new_session()
    await session.begin()
    assert session.editor.notified("window/workDoneProgress/create") == []
    assert shown(session) == []


async def test_a_client_that_refuses_is_left_alone(new_session: Callable[..., Session]) -> None:
    session = new_session(model="slow")
    session.editor.answers["window/workDoneProgress/create"] = ReplyError(-32601, "no")
    await session.begin(**WELCOME)
    await session.editor.until(
        lambda: bool(session.editor.notified("window/workDoneProgress/create"))
    )
    session.engine.enter(LOADING, "reading", 0.5)
    session.engine.enter(EngineState.READY, "ready")
    assert shown(session) == []


async def test_a_load_that_ends_before_the_client_answers_shows_nothing(
    new_session: Callable[..., Session],
) -> None:
    session = new_session()
    await session.begin(**WELCOME)
    await session.editor.request("flash/status")
    assert shown(session) == []


async def test_every_load_has_its_own_progress(new_session: Callable[..., Session]) -> None:
    session = new_session(model="slow")
    await session.begin(**WELCOME)
    await session.editor.until(lambda: len(shown(session)) == 1)
    session.engine.enter(EngineState.READY)
    session.engine.enter(LOADING, "again", 0.0)
    await session.editor.until(lambda: len(shown(session)) == 3)
    session.engine.enter(EngineState.FAILED, "no")
    kinds = [kind for kind, _ in shown(session)]
    assert kinds == ["begin", "end", "begin", "end"]
    assert len({params["token"] for params in session.editor.notified("$/progress")}) == 2


async def test_a_long_build_of_the_index_is_shown_and_a_short_one_is_not(
    new_session: Callable[..., Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    session = new_session()
    await session.begin(**WELCOME)

    def hear(fraction: float) -> None:
        is_building = fraction < 1
        status = IndexStatus(n_files=7, is_building=is_building, fraction=fraction)
        session.server._on_index_status(status)

    for fraction in (0.0, 0.5, 1.0):
        hear(fraction)
    created = session.editor.notified("window/workDoneProgress/create")
    assert [params for params in created if "index" in params["token"]] == []
    monkeypatch.setattr("lsp_server.server._SHOW_INDEXING_AFTER_S", -1.0)
    hear(0.0)
    hear(0.25)
    await session.editor.until(lambda: shown(session) == [("begin", 25)])
    hear(0.5)
    hear(1.0)
    assert shown(session) == [("begin", 25), ("report", 50), ("end", None)]
    values = [params["value"] for params in session.editor.notified("$/progress")]
    assert [v["message"] for v in values[1:]] == ["indexing: 7 files", "7 files are indexed"]
