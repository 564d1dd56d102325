"""What clients report of completions: shown, partly accepted, focus. Counted here, sent nowhere.

The names are those of GitHub's language server, which its clients already speak.
"""

from typing import TYPE_CHECKING

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


def did_focus(ls: "FlashServer", params: FocusParams) -> None:
    ls.activity.n_focused += 1
