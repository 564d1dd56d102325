"""What clients report of completions: shown, accepted how far, focus. Counted here, sent nowhere.

The names are those of GitHub's language server, which its clients already speak.
"""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from lsp_server.acceptance import Offer
from lsp_server.protocol import (
    DID_FOCUS,
    DID_PARTIALLY_ACCEPT_COMPLETION,
    DID_SHOW_COMPLETION,
    FocusParams,
    PartiallyAcceptedParams,
    ShownParams,
)

if TYPE_CHECKING:
    from lsp_server.server import FlashServer


def register(ls: "FlashServer") -> None:
    ls.on(DID_SHOW_COMPLETION, did_show_completion)
    ls.on(DID_PARTIALLY_ACCEPT_COMPLETION, did_partially_accept_completion)
    ls.on(DID_FOCUS, did_focus)


def did_show_completion(ls: "FlashServer", params: ShownParams) -> None:
    ls.activity.n_shown += 1


def did_partially_accept_completion(ls: "FlashServer", params: PartiallyAcceptedParams) -> None:
    ls.activity.n_partially_accepted += 1
    note_acceptance(ls, _offer_id(params.item), params.accepted_length)


def did_focus(ls: "FlashServer", params: FocusParams) -> None:
    ls.activity.n_focused += 1
    ls.index_owner.rescan_if_unwatched()


def note_acceptance(ls: "FlashServer", offer_id: object, n_units: int | None = None) -> None:
    """Count how much of an offer was accepted; some time later, how much of it was kept."""
    offer = ls.acceptance.accept(offer_id, n_units) if isinstance(offer_id, str) else None
    if offer is not None:
        ls.peer.spawn(_check_later(ls, offer), "look at what was kept of a completion")


async def _check_later(ls: "FlashServer", offer: Offer) -> None:
    await asyncio.sleep(ls.acceptance.kept_after_s)
    ls.acceptance.check(offer)


def _offer_id(item: Mapping[str, Any]) -> object:
    """The id in the command of an item that a client sends back."""
    command: object = item.get("command")
    if not isinstance(command, Mapping):
        return None
    arguments = cast("Mapping[str, object]", command).get("arguments")
    return cast("list[object]", arguments)[0] if isinstance(arguments, list) and arguments else None
