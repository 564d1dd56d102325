"""What was lately edited in a document, as replaced runs of lines: keys in one place make one."""

from collections.abc import Sequence

import msgspec

_MOST_EDITS = 8
_MOST_LINES = 40  # a longer one is a paste, a format or another branch: it says nothing of intent


class RecentEdit(msgspec.Struct, frozen=True):
    """Lines `old` became `new`, which now begin at line `start`. Lines carry their ends."""

    start: int
    old: tuple[str, ...]
    new: tuple[str, ...]

    @property
    def end(self) -> int:
        """The line after the last new one, as the document is now."""
        return self.start + len(self.new)

    def moved(self, n_lines: int) -> "RecentEdit":
        return msgspec.structs.replace(self, start=self.start + n_lines)


class EditHistory:
    """The latest edits of one document, oldest first, where they are now."""

    def __init__(self) -> None:
        self.edits: list[RecentEdit] = []

    def record(self, start: int, old: Sequence[str], new: Sequence[str]) -> None:
        """Lines `old` at `start` became `new`; one edit with all that it touches."""
        change = _trimmed(start, old, new)
        start, end = change.start, change.start + len(change.old)
        touched = [edit for edit in self.edits if _touches(edit, start, end)]
        n_more = len(new) - len(old)
        kept = [
            edit if edit.start < end else edit.moved(n_more)
            for edit in self.edits
            if edit not in touched
        ]
        # Lines that were lost before another edit were above it.
        edit = _joined(sorted(touched, key=lambda e: (e.start, e.end)), change)
        is_edit = edit.old != edit.new and max(len(edit.old), len(edit.new)) <= _MOST_LINES
        self.edits = [*kept, *([edit] if is_edit else [])][-_MOST_EDITS:]


def _trimmed(start: int, old: Sequence[str], new: Sequence[str]) -> RecentEdit:
    """The change without lines at both ends that stay as they are."""
    n_most = min(len(old), len(new))
    n_head = next((n for n in range(n_most) if old[n] != new[n]), n_most)
    n_most -= n_head
    n_tail = next((n for n in range(n_most) if old[-1 - n] != new[-1 - n]), n_most)
    return RecentEdit(
        start + n_head,
        tuple(old[n_head : len(old) - n_tail]),
        tuple(new[n_head : len(new) - n_tail]),
    )


def _touches(edit: RecentEdit, start: int, end: int) -> bool:
    """Whether an edit has one of the lines from `start` to `end`, or lost some next to them."""
    if not edit.new:
        return start <= edit.start <= end
    return edit.start < end and start < edit.end


def _joined(earlier: Sequence[RecentEdit], change: RecentEdit) -> RecentEdit:
    """One edit for a change and the earlier ones it touches, which are in order."""
    if not earlier:
        return change
    start, end = change.start, change.start + len(change.old)
    first, last = earlier[0], earlier[-1]
    old: tuple[str, ...] = ()
    at = start
    for edit in earlier:
        # What no earlier edit made is as it was.
        old += (*change.old[max(0, at - start) : max(0, edit.start - start)], *edit.old)
        at = edit.end
    old += change.old[max(0, at - start) :]
    above = first.new[: max(0, start - first.start)]
    below = last.new[len(last.new) - max(0, last.end - end) :]
    return RecentEdit(min(start, first.start), old, (*above, *change.new, *below))
