"""How fast somebody types, and so how long to wait for their next key before asking a model.

Waiting pays only where it is likely to end in a key: then the request would have been for nothing.
"""

from collections import deque
from statistics import median

_N_INTERVALS = 16
_LEAST_INTERVALS = 4
_LONGEST_INTERVAL_S = 1.0  # a longer one is a pause, not part of a rhythm
_MARGIN = 1.25  # keys come a little later than the median half of the time


class TypingRhythm:
    """The latest intervals between keys in one document. Times are seconds of any clock."""

    def __init__(self) -> None:
        self._intervals: deque[float] = deque(maxlen=_N_INTERVALS)
        self._last_key_s: float | None = None

    def note_key(self, now_s: float) -> None:
        """A key was pressed."""
        if self._last_key_s is not None:
            interval = now_s - self._last_key_s
            if interval <= _LONGEST_INTERVAL_S:
                self._intervals.append(interval)
            else:
                self._intervals.clear()  # what is typed after a pause has a rhythm of its own
        self._last_key_s = now_s

    def wait_s(self, now_s: float, longest_s: float) -> float:
        """How long to wait from now on for the next key, at most `longest_s`.

        A rhythm that is not known yet gets the longest wait; one too slow for it gets none, since
        the next key would come after it anyway.
        """
        if len(self._intervals) < _LEAST_INTERVALS or self._last_key_s is None:
            return longest_s
        expected_s = median(self._intervals) * _MARGIN
        if expected_s > longest_s:
            return 0.0
        return max(0.0, self._last_key_s + expected_s - now_s)
