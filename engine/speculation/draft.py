"""What a source of drafts hands over, and the tree of drafts that one step verifies.

Plain data: proposes nothing, verifies nothing. Which draft is right is decided by the target alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from engine.session import Session

ROOT = -1  # the parent of a row that continues the committed sequence directly


@dataclass(frozen=True, eq=False)
class BlockDraft:
    """Candidates by depth, every depth predicted without knowing what was chosen above it.

    ids (L, K) int32 and log_probs (L, K) float32: row d-1 holds the K likeliest tokens at depth d
    (the root token has depth 0), likeliest first.
    """

    ids: NDArray[np.int32]
    log_probs: NDArray[np.float32]


@dataclass(frozen=True)
class ChainDraft:
    """A run of tokens that may follow the root; each log-probability is given those before it."""

    tokens: tuple[int, ...]
    log_probs: tuple[float, ...]
    source: str


@dataclass(frozen=True)
class DraftTree:
    """The rows of one step. Row 0 is the root, a token that is decided already; the others are
    drafts, likeliest first, so that the first n rows of a tree are a tree too.

    `log_probs` are those of the whole path from the root; `sources` name who proposed a row.
    """

    tokens: tuple[int, ...]
    parents: tuple[int, ...]
    log_probs: tuple[float, ...]
    sources: tuple[tuple[str, ...], ...]

    @classmethod
    def of_root(cls, token: int) -> "DraftTree":
        """The tree of plain decoding."""
        return cls((token,), (ROOT,), (0.0,), ((),))

    @property
    def n_nodes(self) -> int:
        """Rows without the root."""
        return len(self.tokens) - 1

    @cached_property
    def children(self) -> dict[tuple[int, int], int]:
        """The row of each child, by its parent's row and its token."""
        rows = zip(self.parents[1:], self.tokens[1:], strict=True)
        return {key: row for row, key in enumerate(rows, start=1)}

    def cut(self, n_nodes: int) -> "DraftTree":
        """The root and the `n_nodes` likeliest drafts."""
        n = n_nodes + 1
        return DraftTree(self.tokens[:n], self.parents[:n], self.log_probs[:n], self.sources[:n])


class Drafter(Protocol):
    """A model that drafts a block of tokens from a session's committed state."""

    @property
    def block_rows(self) -> int:
        """Most rows of one block, the root among them."""
        ...

    @property
    def is_concurrent(self) -> bool:
        """Whether the host is free while a block is drafted."""
        ...

    def begin_below(self, session: "Session", n_rows: int) -> Callable[[], BlockDraft] | None:
        """As `begin`, below what the tree that the session is verifying decides greedily, before it
        is known (Session.draft_below). None where that cannot be."""
        ...

    def begin(self, session: "Session", last_token: int, n_rows: int) -> Callable[[], BlockDraft]:
        """Begins to draft what follows the committed tokens and `last_token`, which is not
        committed yet; what comes back waits for the draft, and may be left alone.

        `n_rows` counts `last_token`, so the draft has L = n_rows - 1 depths; it is at most
        `block_rows`, and the session has room for as many. Raises StepCancelled. The session is
        left as it was.
        """
        ...
