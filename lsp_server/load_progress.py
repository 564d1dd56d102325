"""The client's progress bar while a model loads. LSP: window/workDoneProgress and $/progress."""

import itertools
import logging
from collections.abc import Mapping

from engine.client import EngineState, EngineStatus
from lsp_server.jsonrpc import Peer, RpcError

log = logging.getLogger(__name__)

TITLE = "flash-lsp"
_BUSY = (EngineState.STARTING, EngineState.LOADING)


class LoadProgressReport:
    """Shows each load as one progress; a client that refuses one is left alone until the next."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._numbers = itertools.count(1)
        self._token: str | None = None
        self._is_begun = False
        self._status: EngineStatus | None = None
        self._shown_percentage = 0

    def update(self, status: EngineStatus, *, is_welcome: bool) -> None:
        """Take the engine's new state; without the client's welcome nothing is shown."""
        self._status = status
        if status.state in _BUSY and self._token is None and is_welcome:
            self._token = f"flash-load-{next(self._numbers)}"
            self._peer.spawn(self._begin(self._token), "load progress")
        elif status.state in _BUSY:
            self._report(status)
        elif self._token is not None:
            self._end(status)

    async def _begin(self, token: str) -> None:
        try:
            await self._peer.ask("window/workDoneProgress/create", {"token": token})
        except (RpcError, TimeoutError) as error:
            log.info("the client shows no progress: %s", error)
            return
        status = self._status
        if token != self._token or status is None:
            return  # the load ended before the client answered
        self._is_begun, self._shown_percentage = True, _percentage(status)
        self._send(
            token,
            {
                "kind": "begin",
                "title": TITLE,
                "message": status.message,
                "percentage": self._shown_percentage,
                "cancellable": False,
            },
        )

    def _report(self, status: EngineStatus) -> None:
        percentage = _percentage(status)
        # The protocol wants percentages that never fall; one message for each is enough.
        if self._token is None or not self._is_begun or percentage <= self._shown_percentage:
            return
        self._shown_percentage = percentage
        report = {"kind": "report", "message": status.message, "percentage": percentage}
        self._send(self._token, report)

    def _end(self, status: EngineStatus) -> None:
        if self._token is not None and self._is_begun:
            self._send(self._token, {"kind": "end", "message": status.message})
        self._token, self._is_begun = None, False

    def _send(self, token: str, value: Mapping[str, object]) -> None:
        self._peer.notify("$/progress", {"token": token, "value": value})


def _percentage(status: EngineStatus) -> int:
    return min(100, max(0, round(100 * status.fraction)))
