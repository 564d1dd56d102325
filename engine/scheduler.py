"""Which request runs next: priority, newest per document, bounded. Holds no tensors."""

import threading
import time
from bisect import insort
from typing import Generic, Protocol, TypeVar

from engine.cancel import CancelToken
from engine.errors import EngineBusyError, EngineError
from engine.request import BACKGROUND


class Schedulable(Protocol):
    """What the scheduler needs to know of a request."""

    @property
    def id(self) -> int: ...
    @property
    def document(self) -> str | None: ...
    @property
    def priority(self) -> int: ...
    @property
    def cancel(self) -> CancelToken: ...


ItemT = TypeVar("ItemT", bound=Schedulable)


class Scheduler(Generic[ItemT]):
    """A thread-safe queue with many producers and one consumer.

    Lower priority numbers first, first come first served among equals. Items that leave the queue
    without having run are returned to the caller, who owes them an answer.
    """

    def __init__(self, max_waiting: int = 64) -> None:
        if max_waiting < 1:
            raise ValueError(f"max_waiting is {max_waiting}, expected at least 1")
        self._max_waiting = max_waiting
        self._changed = threading.Condition()
        self._waiting: list[ItemT] = []  # in the order they will run
        self._running: ItemT | None = None
        self._is_preempted = False  # the running item makes room for another and is to run again
        self._is_closed = False

    @property
    def n_waiting(self) -> int:
        return len(self._waiting)

    @property
    def is_idle(self) -> bool:
        """Whether `next` would wait."""
        with self._changed:
            return not self._waiting and not self._is_closed

    @property
    def running(self) -> ItemT | None:
        """The item given out by the last `next`, until the consumer asks for another."""
        return self._running

    def submit(self, item: ItemT) -> list[ItemT]:
        """Queue `item` and return the waiting ones that it supersedes, cancelled.

        A running older item of the same document is cancelled, too, but answers for itself. One in
        the background makes room for any that is more urgent: see `put_back`.
        Raises EngineBusyError, with nothing changed, when the queue is full.
        """
        with self._changed:
            if self._is_closed:
                raise EngineError("the engine is closing and takes no more requests")
            older = [other for other in self._waiting if _supersedes(item, other)]
            if len(self._waiting) - len(older) >= self._max_waiting:
                raise EngineBusyError(len(self._waiting))
            self._waiting = [other for other in self._waiting if other not in older]
            insort(self._waiting, item, key=_priority)
            running = self._running
            is_stopped = running is not None and _supersedes(item, running)
            if is_stopped:
                self._is_preempted = False
            elif running is not None and running.priority >= max(BACKGROUND, item.priority + 1):
                self._is_preempted = is_stopped = True
            self._changed.notify()
        # Callbacks of a token run without the lock, so that they may take their time.
        for other in older:
            other.cancel.cancel()
        if running is not None and is_stopped:
            running.cancel.cancel()
        return older

    def put_back(self, renewed: ItemT) -> bool:
        """Queue the running item again, as `renewed`, if it was cancelled for a more urgent one
        alone; False if it was not, or if nobody wants it any more."""
        with self._changed:
            if not self._is_preempted or self._is_closed:
                return False
            self._is_preempted = False
            insort(self._waiting, renewed, key=_priority)
            return True

    def next(self, timeout_s: float | None = None) -> ItemT | None:
        """Wait for the next item to run; None when closed or when the time is up.

        Asking for the next one says that the one before is finished.
        """
        end_s = None if timeout_s is None else time.monotonic() + timeout_s
        with self._changed:
            self._running = None
            while not self._waiting and not self._is_closed:
                left_s = None if end_s is None else end_s - time.monotonic()
                if left_s is not None and left_s <= 0:
                    return None
                self._changed.wait(left_s)
            if not self._waiting:
                return None
            self._running = self._waiting.pop(0)
            self._is_preempted = False
            return self._running

    def cancel(self, id: int) -> ItemT | None:
        """Cancel the item with this id; a waiting one is removed and returned.

        A running one answers for itself; an unknown or finished id is ignored.
        """
        with self._changed:
            removed = next((item for item in self._waiting if item.id == id), None)
            if removed is not None:
                self._waiting.remove(removed)
            running = self._running
            if running is not None and running.id == id:
                self._is_preempted = False
        if removed is not None:
            removed.cancel.cancel()
        elif running is not None and running.id == id:
            running.cancel.cancel()
        return removed

    def close(self) -> list[ItemT]:
        """Take no more items, cancel everything, and return the waiting ones."""
        with self._changed:
            self._is_closed = True
            waiting, self._waiting = self._waiting, []
            running = self._running
            self._changed.notify_all()
        for item in waiting:
            item.cancel.cancel()
        if running is not None:
            running.cancel.cancel()
        return waiting


def _supersedes(newer: Schedulable, older: Schedulable) -> bool:
    return newer.document is not None and newer.document == older.document


def _priority(item: Schedulable) -> int:
    return item.priority
