"""The difference between two versions of some lines, as the fewest replaced runs of lines."""

import io
from collections.abc import Sequence
from difflib import SequenceMatcher

import msgspec


class LineEdit(msgspec.Struct, frozen=True):
    """Lines `start` to `end` (exclusive, from zero) become `new`."""

    start: int
    end: int
    new: str


def split_lines(text: str) -> list[str]:
    """Lines with their ends, cut at LF, CR LF and a lone CR only, as the protocol counts them."""
    return list(io.StringIO(text, newline=""))


def line_edits(old: Sequence[str], new: Sequence[str]) -> list[LineEdit]:
    """What to replace in `old` to get `new`, ascending; both are lines with their ends."""
    matcher = SequenceMatcher(None, old, new, autojunk=False)
    return [
        LineEdit(a, b, "".join(new[c:d]))
        for tag, a, b, c, d in matcher.get_opcodes()
        if tag != "equal"
    ]
