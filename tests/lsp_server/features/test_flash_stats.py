from collections.abc import Callable

from tests.lsp_server.conftest import Ask
from tests.lsp_server.memory_editor import URI, Session


async def test_stats_tell_what_became_of_requests(session: Session, ask_inline: Ask) -> None:
    await ask_inline()
    await ask_inline(uri="file:///unknown.py")
    stats = await session.editor.request("flash/stats")
    assert stats["engine"]["nRequests"] == 1
    assert stats["outcomes"] == {"offered": 1, "unknown-document": 1}
    offered, unknown = stats["recent"]
    assert (offered["uri"], offered["outcome"], unknown["outcome"]) == (
        URI,
        "offered",
        "unknown-document",
    )
    assert (offered["promptTokens"], offered["cachedTokens"], offered["tokens"]) == (3, 1, 2)
    assert (offered["prefillMs"], offered["decodeMs"]) == (10.0, 20.0)
    assert offered["totalMs"] > 0


async def test_without_a_model_there_are_no_engine_counters(
    new_session: Callable[..., Session],
) -> None:
    session = new_session(model="slow")
    await session.begin()
    assert (await session.editor.request("flash/stats"))["engine"] is None
