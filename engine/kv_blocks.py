"""Reference-counted, copy-on-write KV blocks. Bookkeeping only: holds no tensors.

A block is room for `block_tokens` positions of one sequence. A sequence's `BlockTable` maps its
logical blocks to physical ones of a `BlockPool`; forks share blocks until one of them writes.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from engine.errors import EngineError

BLOCK_TOKENS = 32


class BlocksExhaustedError(EngineError):
    """Every block is in use and nothing can be evicted."""

    def __init__(self, n_blocks: int) -> None:
        super().__init__(
            f"all {n_blocks} KV blocks are in use; shorten the prompt or raise the context size"
        )
        self.n_blocks = n_blocks


class Copy(NamedTuple):
    """The caller must copy the contents of physical block `src` to `dst`."""

    src: int
    dst: int


class BlockPool:
    """Physical block ids 0..n_blocks-1 with a reference count each.

    `evict` is asked when none is free; it gives up what is merely cached and returns False when
    there is nothing left to give up.
    """

    def __init__(self, n_blocks: int, evict: Callable[[], bool] | None = None) -> None:
        if n_blocks < 1:
            raise ValueError(f"n_blocks is {n_blocks}, expected at least 1")
        self.n_blocks = n_blocks
        self.evict = evict
        self._refcounts = [0] * n_blocks
        self._free = list(range(n_blocks - 1, -1, -1))  # the last one is given out next

    @property
    def n_free(self) -> int:
        return len(self._free)

    def refcount(self, id: int) -> int:
        return self._refcounts[id]

    def allocate(self) -> int:
        """Take a free block, referenced once. Raises BlocksExhaustedError."""
        # An evicted entry may share all its blocks with others and so free none: ask again.
        while not self._free:
            if self.evict is None or not self.evict():
                raise BlocksExhaustedError(self.n_blocks)
        id = self._free.pop()
        self._refcounts[id] = 1
        return id

    def retain(self, id: int) -> None:
        assert self._refcounts[id] > 0, f"block {id} is free"
        self._refcounts[id] += 1

    def release(self, id: int) -> None:
        assert self._refcounts[id] > 0, f"block {id} is free"
        self._refcounts[id] -= 1
        if self._refcounts[id] == 0:
            self._free.append(id)


class BlockTable:
    """The blocks of one sequence, in order. Release it, or its blocks are lost to the pool."""

    def __init__(self, pool: BlockPool, block_tokens: int = BLOCK_TOKENS) -> None:
        if block_tokens < 1:
            raise ValueError(f"block_tokens is {block_tokens}, expected at least 1")
        self.block_tokens = block_tokens
        self._pool = pool
        self._blocks: list[int] = []
        self._n_tokens = 0
        self._ids: npt.NDArray[np.int32] | None = None

    @property
    def n_tokens(self) -> int:
        return self._n_tokens

    @property
    def ids(self) -> npt.NDArray[np.int32]:
        """Physical block of each logical block, read-only; valid until the table changes."""
        if self._ids is None:
            self._ids = np.array(self._blocks, dtype=np.int32)
            self._ids.setflags(write=False)
        return self._ids

    def grow_to(self, n_tokens: int) -> list[Copy]:
        """Make positions [self.n_tokens, n_tokens) writable by this sequence alone.

        The copies must be done, in any order, before anything else is asked of the pool. Raises
        BlocksExhaustedError with the table unchanged.
        """
        assert n_tokens >= self._n_tokens, f"grow from {self._n_tokens} to {n_tokens} tokens"
        if n_tokens == self._n_tokens:
            return []
        n_new = self._n_blocks_for(n_tokens) - len(self._blocks)
        is_partial = self._n_tokens % self.block_tokens != 0
        is_shared = is_partial and self._pool.refcount(self._blocks[-1]) > 1
        fresh = self._allocate(n_new + is_shared)
        copies: list[Copy] = []
        if is_shared:
            copies.append(Copy(self._blocks[-1], fresh[0]))
            self._pool.release(self._blocks.pop())
        self._blocks += fresh
        self._n_tokens = n_tokens
        if fresh:
            self._ids = None
        return copies

    def truncate(self, n_tokens: int) -> None:
        """Forget the positions from `n_tokens` on."""
        assert 0 <= n_tokens <= self._n_tokens, f"truncate {self._n_tokens} to {n_tokens} tokens"
        self._n_tokens = n_tokens
        n_kept = self._n_blocks_for(n_tokens)
        if n_kept == len(self._blocks):
            return
        for id in self._blocks[n_kept:]:
            self._pool.release(id)
        del self._blocks[n_kept:]
        self._ids = None

    def fork(self) -> "BlockTable":
        """Make a table of the same contents that shares every block."""
        other = BlockTable(self._pool, self.block_tokens)
        for id in self._blocks:
            self._pool.retain(id)
        other._blocks = self._blocks.copy()
        other._n_tokens = self._n_tokens
        other._ids = self._ids
        return other

    def release(self) -> None:
        """Give all blocks back; the table is empty afterwards and may be used again."""
        self.truncate(0)

    def _n_blocks_for(self, n_tokens: int) -> int:
        return -(-n_tokens // self.block_tokens)

    def _allocate(self, n: int) -> list[int]:
        """Allocate `n` blocks or none."""
        fresh: list[int] = []
        try:
            for _ in range(n):
                fresh.append(self._pool.allocate())
        except BlocksExhaustedError:
            for id in fresh:
                self._pool.release(id)
            raise
        return fresh
