"""Work that goes on when its request has been answered: the rest of a text, and what comes after.

One task for each document. It makes room for the document's next question to the model; what was
found by then stays in the caches.
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from engine.errors import EngineError

log = logging.getLogger(__name__)


class Ahead:
    """Tasks by document; failures are logged, for nobody waits for them."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def follow(self, uri: str, work: Coroutine[Any, Any, None]) -> None:
        """Do `work` in place of what the document had going on."""
        self.drop(uri)
        task = asyncio.create_task(work)
        self._tasks[uri] = task
        task.add_done_callback(lambda _: self._forget(uri, task))

    def drop(self, uri: str) -> None:
        if (task := self._tasks.pop(uri, None)) is not None:
            task.cancel()

    def clear(self) -> None:
        for uri in list(self._tasks):
            self.drop(uri)

    async def idle(self) -> None:
        """Wait until nothing goes on; for scripts and tests."""
        while self._tasks:
            await asyncio.wait(self._tasks.values())

    def _forget(self, uri: str, task: "asyncio.Task[None]") -> None:
        if self._tasks.get(uri) is task:
            del self._tasks[uri]
        if task.cancelled() or (error := task.exception()) is None:
            return
        if isinstance(error, EngineError):
            log.info("work ahead of the user ended: %s", error)
        else:
            log.error("work ahead of the user failed", exc_info=error)
