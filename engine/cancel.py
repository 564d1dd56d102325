"""How one request is told to stop, from any thread."""

import contextlib
import threading
from collections.abc import Callable


class CancelToken:
    """Set once, by any thread; the thread that works polls it or registers a callback."""

    def __init__(self) -> None:
        # Held while callbacks run; reentrant, so that a callback may use the token.
        self._lock = threading.RLock()
        self._is_cancelled = False
        self._callbacks: list[Callable[[], None]] = []

    @property
    def is_cancelled(self) -> bool:
        return self._is_cancelled

    def cancel(self) -> None:
        """Cancel; the callbacks run on this thread. Cancelling again does nothing."""
        with self._lock:
            self._is_cancelled = True
            while self._callbacks:
                self._callbacks.pop(0)()

    def on_cancel(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` once when cancelled, at once if that has happened already.

        It runs on the cancelling thread, so it must be quick, must not raise and must not wait for
        another thread. Returns a function that forgets the callback: once that has returned, the
        callback neither runs nor will.
        """
        with self._lock:
            if self._is_cancelled:
                callback()
            else:
                self._callbacks.append(callback)

        def forget() -> None:
            with self._lock, contextlib.suppress(ValueError):
                self._callbacks.remove(callback)

        return forget
