"""How one request is told to stop, from any thread."""

import threading
from collections.abc import Callable


class CancelToken:
    """Set once, by any thread; the thread that works polls it or registers a callback."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_cancelled = False
        self._callbacks: list[Callable[[], None]] = []

    @property
    def is_cancelled(self) -> bool:
        return self._is_cancelled

    def cancel(self) -> None:
        """Cancel; the callbacks run on this thread. Cancelling again does nothing."""
        with self._lock:
            self._is_cancelled = True
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """Call `callback` exactly once when cancelled, at once if that has happened already.

        It runs on the cancelling thread, so it must be quick and must not raise.
        """
        with self._lock:
            if not self._is_cancelled:
                self._callbacks.append(callback)
                return
        callback()
