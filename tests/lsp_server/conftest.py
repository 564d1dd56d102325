"""Sessions of a client in memory with the real server and a fake engine."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from tests.lsp_server.memory_editor import Session, inline_params


@pytest.fixture
async def new_session() -> AsyncIterator[Callable[..., Session]]:
    sessions: list[Session] = []

    def make(**overrides: Any) -> Session:
        quiet = {"debounceMs": 0, "candidates": 1, "indexEnabled": False, "prefetch": False}
        sessions.append(Session({**quiet, **overrides}))
        return sessions[-1]

    yield make
    for session in sessions:
        session.server.peer.exit(0)
        await session.server.close()


@pytest.fixture
async def session(new_session: Callable[..., Session]) -> Session:
    """A session that is initialized, with a ready engine and an open document."""
    session = new_session()
    await session.begin()
    session.editor.open("def add(a, b):\n    \n")
    return session


Ask = Callable[..., Awaitable[Any]]


@pytest.fixture
def ask_inline(session: Session) -> Ask:
    """Ask for ghost text in the session's document."""

    async def ask(line: int = 1, character: int = 4, **more: Any) -> Any:
        params = inline_params(line, character, **more)
        return await session.editor.request("textDocument/inlineCompletion", params)

    return ask
