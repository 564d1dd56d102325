"""flash/stats: the engine's counters and what became of the completions."""

from typing import TYPE_CHECKING

from engine.client import EngineState
from lsp_server.convert import engine_counters, index_record
from lsp_server.protocol import FLASH_STATS, FlashStats

if TYPE_CHECKING:
    from lsp_server.server import FlashServer


def register(ls: "FlashServer") -> None:
    ls.on(FLASH_STATS, stats)


async def stats(ls: "FlashServer", params: object) -> FlashStats:
    activity = ls.activity
    counters: dict[str, int | float] | None = None
    if ls.engine_owner.status.state is EngineState.READY:
        engine = await ls.engine_owner.engine()
        counters = engine_counters(await engine.stats())
    return FlashStats(
        engine=counters,
        outcomes=dict(activity.outcomes),
        n_focused=activity.n_focused,
        n_shown=activity.n_shown,
        n_accepted=activity.n_accepted,
        n_partially_accepted=activity.n_partially_accepted,
        n_accepted_chars=ls.acceptance.n_accepted_chars,
        n_kept_checked=ls.acceptance.n_checked,
        kept_rate=ls.acceptance.kept_rate,
        edits=dict(activity.edits),
        next_edits=dict(activity.next_edits),
        recent=list(activity.recent),
        index=index_record(ls.index_owner.status),
    )
