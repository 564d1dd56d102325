"""Requests in flight: the newest of a document wins, and a burst of them runs once.

Some clients ask anew at every keystroke without cancelling what they asked before, so the server
drops the older request itself. Knows neither engines nor editors.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")

MAX_JOBS = 64


class SupersededError(Exception):
    """A newer job of the same document took this one's place."""


class TooManyJobsError(Exception):
    """So many documents have a job running that another must not begin."""


class Jobs(Generic[T]):
    """At most one job per document, and a bounded number of them."""

    def __init__(self, max_jobs: int = MAX_JOBS) -> None:
        self._max_jobs = max_jobs
        self._running: dict[str, asyncio.Task[T]] = {}
        self._superseded: set[asyncio.Task[T]] = set()

    def __len__(self) -> int:
        return len(self._running)

    async def run(
        self, document: str, work: Callable[[], Awaitable[T]], debounce_s: float = 0.0
    ) -> T:
        """Do `work` after `debounce_s` of quiet, unless a newer job of `document` comes.

        Raises SupersededError if one comes, even while `work` runs, and TooManyJobsError at once.
        Cancelling the caller cancels the work.
        """
        older = self._running.get(document)
        if older is None and len(self._running) >= self._max_jobs:
            raise TooManyJobsError(f"{self._max_jobs} documents are being completed already")
        if older is not None:
            self._superseded.add(older)
            older.cancel()
        task = asyncio.create_task(_later(work, debounce_s))
        self._running[document] = task
        try:
            return await task
        except asyncio.CancelledError:
            if task in self._superseded and not _is_caller_cancelled():
                raise SupersededError from None
            raise
        finally:
            self._superseded.discard(task)
            if self._running.get(document) is task:
                del self._running[document]

    def drop(self, document: str) -> None:
        """Supersede the document's job by nothing: the document changed shape or was closed."""
        if (task := self._running.get(document)) is not None:
            self._superseded.add(task)
            task.cancel()


async def _later(work: Callable[[], Awaitable[T]], debounce_s: float) -> T:
    if debounce_s:
        await asyncio.sleep(debounce_s)
    return await work()


def _is_caller_cancelled() -> bool:
    caller = asyncio.current_task()
    return caller is not None and caller.cancelling() > 0
