"""Cuts a file into chunks of whole lines, where a definition, a paragraph or a block begins.

No grammar: indentation, blank lines and the look of a definition's head, which are right in half
written code as well. A cut depends only on lines near it, so that an edit moves few of them.
"""

from collections.abc import Sequence
from hashlib import blake2b

import msgspec

from lsp_server.diffs import split_lines
from lsp_server.prompt.enclosing import is_definition

LEAST_LINES, MOST_LINES = 20, 60
_LEAST_REST = 8  # a last chunk shorter than this is not worth being one
_HASH_BYTES = 16

# What follows a line that begins so belongs to it: comments, decorators, attributes.
_LEADS = ("#", "//", "/*", "*", "@", "--", '"""', "'''", "template", "[<")
_CONTINUES = (")", "]", "}", "else", "elif", "except", "catch", "finally", "end", "and ", "or ")
_HEAD_ENDS = (":", "{", "(", "[", "\\", "=", "->", "=>")


class ChunkSpan(msgspec.Struct, frozen=True):
    """Lines of a text that make one chunk."""

    first_line: int
    n_lines: int
    text: str


def content_hash(text: str) -> bytes:
    """The name of a chunk's content."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_HASH_BYTES).digest()


def chunks_of(text: str) -> list[ChunkSpan]:
    """Cut a text; together the chunks are the whole text. One without any words has none."""
    if not text.strip():
        return []
    lines = split_lines(text)
    bounds = [0, *_cuts(lines), len(lines)]
    return [
        ChunkSpan(start, end - start, "".join(lines[start:end]))
        for start, end in zip(bounds, bounds[1:], strict=False)
    ]


def _cuts(lines: Sequence[str]) -> list[int]:
    cuts: list[int] = []
    start = 0
    while len(lines) - start > MOST_LINES:
        start = _best_cut(lines, start + LEAST_LINES, min(start + MOST_LINES, len(lines) - 1))
        cuts.append(start)
    if cuts and len(lines) - start < _LEAST_REST:
        cuts.pop()
    return cuts


def _best_cut(lines: Sequence[str], low: int, high: int) -> int:
    """The line in low..high to begin a chunk at: outermost first, then the earliest definition."""
    ranked = [(_rank(lines, i), i) for i in range(low, high + 1)]
    best = min(rank for rank, _ in ranked)
    equal = [i for rank, i in ranked if rank == best]
    return next((i for i in equal if _begins_definition(lines, i)), equal[0])


def _rank(lines: Sequence[str], i: int) -> tuple[bool, int, bool]:
    """How bad it is to cut before line i: a torn unit, then depth, then no gap above."""
    line, above = lines[i].strip(), lines[i - 1].strip()
    if not line:
        return True, 1000, True
    depth = len(lines[i]) - len(lines[i].lstrip())
    is_torn = line.startswith(_CONTINUES) or above.startswith(_LEADS) or above.endswith(_HEAD_ENDS)
    return is_torn, depth, bool(above) and not above.startswith(("}", "end"))


def _begins_definition(lines: Sequence[str], i: int) -> bool:
    """Whether line i, or the first below its comments and decorators, is a definition's head."""
    for line in lines[i : i + 12]:
        if not line.lstrip().startswith(_LEADS):
            return is_definition(line.rstrip())
    return False
