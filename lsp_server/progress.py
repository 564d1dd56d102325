"""The client's progress bar for something long. LSP: window/workDoneProgress and $/progress."""

import itertools
import logging
from collections.abc import Mapping

from lsp_server.jsonrpc import Peer, RpcError

log = logging.getLogger(__name__)

TITLE = "flash-lsp"


class ProgressReport:
    """Shows one kind of work, a progress for each time; a client that refuses one is left alone
    until the next."""

    def __init__(self, peer: Peer, name: str) -> None:
        self._peer, self._name = peer, name
        self._numbers = itertools.count(1)
        self._token: str | None = None
        self._is_begun = False
        self._message, self._fraction = "", 0.0
        self._shown_percentage = 0

    def update(self, message: str, fraction: float, *, is_welcome: bool) -> None:
        """Say how far the work is; without the client's welcome nothing is shown."""
        self._message, self._fraction = message, fraction
        if self._token is not None:
            self._report()
        elif is_welcome:
            self._token = f"flash-{self._name}-{next(self._numbers)}"
            self._peer.spawn(self._begin(self._token), f"{self._name} progress")

    def end(self, message: str) -> None:
        """Say that the work is over, if it was shown at all."""
        if self._token is not None and self._is_begun:
            self._send(self._token, {"kind": "end", "message": message})
        self._token, self._is_begun = None, False

    async def _begin(self, token: str) -> None:
        try:
            await self._peer.ask("window/workDoneProgress/create", {"token": token})
        except (RpcError, TimeoutError) as error:
            log.info("the client shows no progress: %s", error)
            return
        if token != self._token:
            return  # the work ended before the client answered
        self._is_begun, self._shown_percentage = True, self._percentage
        self._send(
            token,
            {
                "kind": "begin",
                "title": TITLE,
                "message": self._message,
                "percentage": self._shown_percentage,
                "cancellable": False,
            },
        )

    def _report(self) -> None:
        percentage = self._percentage
        # The protocol wants percentages that never fall; one message for each is enough.
        if self._token is None or not self._is_begun or percentage <= self._shown_percentage:
            return
        self._shown_percentage = percentage
        report = {"kind": "report", "message": self._message, "percentage": percentage}
        self._send(self._token, report)

    def _send(self, token: str, value: Mapping[str, object]) -> None:
        self._peer.notify("$/progress", {"token": token, "value": value})

    @property
    def _percentage(self) -> int:
        return min(100, max(0, round(100 * self._fraction)))
