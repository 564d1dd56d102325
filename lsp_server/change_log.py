"""The latest changes of a document: what they replaced, and where lines have moved since.

Knows no text but that of the changes themselves.
"""

from collections import deque
from collections.abc import Sequence

import msgspec

_MOST_CHANGES = 512
_MOST_CHARS = 2**18  # of all changes kept, so that pasted files do not pile up


class Place(msgspec.Struct, frozen=True, order=True):
    """A line and a column in it, both from zero; columns count characters (code points)."""

    line: int
    column: int


class LineSpan(msgspec.Struct, frozen=True):
    """Lines `start` to `end` (exclusive), from zero."""

    start: int
    end: int


class TextChange(msgspec.Struct, frozen=True):
    """What began at `start` and read `old` became `new`, on the way to `version`."""

    version: int
    start: Place
    old: str
    new: str

    @property
    def old_end(self) -> Place:
        return _end_of(self.start, self.old)

    @property
    def n_more_lines(self) -> int:
        return n_line_ends(self.new) - n_line_ends(self.old)


class ChangeLog:
    """Changes in the order in which they happened; the oldest are forgotten."""

    def __init__(self) -> None:
        self._changes: deque[TextChange] = deque()
        self._n_chars = 0
        self._forgotten_version: int | None = None

    def record(self, version: int, start: Place, old: str, new: str) -> None:
        """Note a change; one that changes nothing is none."""
        if old == new:
            return
        change = TextChange(version, start, old, new)
        self._changes.append(change)
        self._n_chars += len(old) + len(new)
        while self._changes and (len(self._changes) > _MOST_CHANGES or self._n_chars > _MOST_CHARS):
            oldest = self._changes.popleft()
            self._n_chars -= len(oldest.old) + len(oldest.new)
            self._forgotten_version = oldest.version

    def since(self, version: int) -> Sequence[TextChange] | None:
        """The changes after `version`; None if some of them are forgotten."""
        forgotten = self._forgotten_version
        if forgotten is not None and forgotten > version:
            return None
        return [change for change in self._changes if change.version > version]


def follow(span: LineSpan, changes: Sequence[TextChange]) -> LineSpan | None:
    """Where the lines of `span` are after the changes; None if one touched them.

    A change that ends right at the first line's start moves it; its text must still be compared.
    """
    for change in changes:
        if change.start >= Place(span.end, 0):
            continue
        if change.old_end > Place(span.start, 0):
            return None
        n_more = change.n_more_lines
        span = LineSpan(span.start + n_more, span.end + n_more)
    return span


def n_line_ends(text: str) -> int:
    return text.count("\n") + text.count("\r") - text.count("\r\n")


def _end_of(start: Place, text: str) -> Place:
    n_lines = n_line_ends(text)
    if not n_lines:
        return Place(start.line, start.column + len(text))
    last_line = text[max(text.rfind("\n"), text.rfind("\r")) + 1 :]
    return Place(start.line + n_lines, len(last_line))
