"""From tokens to lines: which line of a text each token begins in."""

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engine.tokenizer import Tokenizer

Int32s = NDArray[np.int32]
Floats = NDArray[np.float32]


def split_lines(text: str) -> list[str]:
    """The lines with their ends; only "\\n" ends one."""
    return list(io.StringIO(text, newline="\n"))


def lines_of_tokens(tokenizer: Tokenizer, ids: Sequence[int], text: str) -> Int32s:
    """For each token of `text` the index of the line that its first byte lies in (T,).

    A token may span lines: it belongs to the one it begins in. Bytes, not characters, are counted,
    so a token that holds a part of a character has a place as well.
    """
    data = np.frombuffer(text.encode("utf-8", "replace"), np.uint8)
    line_of_byte = np.zeros(len(data) + 1, np.int32)
    np.cumsum(data == ord("\n"), out=line_of_byte[1:])
    sizes = np.fromiter((len(tokenizer.token_bytes(id)) for id in ids), np.int64, len(ids))
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]) if len(ids) else sizes
    return line_of_byte[np.minimum(starts, len(data))]


def shares_of_lines(shares: Floats, lines: Int32s, n_lines: int) -> Floats:
    """What each line gets (n_lines,): the sum of its tokens' shares over the root of their number.

    Between sum and mean: neither long lines nor one lucky token of a short line win
    (benchmarks/cross_file.py --recall).
    """
    counts = np.bincount(lines, minlength=n_lines)
    sums = np.bincount(lines, shares, minlength=n_lines)
    return (sums / np.sqrt(np.maximum(counts, 1))).astype(np.float32)


def counts_of_lines(lines: Int32s, n_lines: int) -> Int32s:
    """How many tokens begin in each line (n_lines,)."""
    return np.bincount(lines, minlength=n_lines).astype(np.int32)
