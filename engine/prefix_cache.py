"""The longest reusable prefix of a prompt, under a byte budget. Holds no tensors."""

from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from engine.kv_blocks import BlockPool, BlockTable

Tokens = npt.NDArray[np.int32]


@dataclass(eq=False, slots=True)
class PrefixEntry:
    """A sequence whose state is kept. Fork `table` to use it; all fields are the cache's own.

    The tokens are kept as bytes: most entries have little in common with what is looked for, and
    bytes are compared in a fraction of the time that NumPy takes to begin."""

    raw: bytes
    table: BlockTable

    @property
    def tokens(self) -> Tokens:
        return np.frombuffer(self.raw, np.int32)


class PrefixMatch(NamedTuple):
    entry: PrefixEntry | None
    n_common: int


class PrefixCache:
    """Snapshots of sequences, least recently used first out.

    `evict_one` is what the pool should ask when it runs out of blocks.
    """

    def __init__(self, pool: BlockPool, byte_budget: int, block_bytes: int) -> None:
        if block_bytes < 1:
            raise ValueError(f"block_bytes is {block_bytes}, expected at least 1")
        self._pool = pool
        self._byte_budget = byte_budget
        self._block_bytes = block_bytes
        self._entries: list[PrefixEntry] = []  # least recently used first
        self._n_users: Counter[int] = Counter()  # entries per physical block

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def n_bytes(self) -> int:
        """Bytes of the blocks that entries hold, a shared block counted once."""
        return len(self._n_users) * self._block_bytes

    def longest_prefix(self, tokens: npt.ArrayLike) -> PrefixMatch:
        """Find the entry with the most leading tokens in common, and make it the newest."""
        wanted = _as_tokens(tokens)
        raw, best = wanted.tobytes(), PrefixMatch(None, 0)
        for entry in reversed(self._entries):
            n_bytes = (best.n_common + 1) * wanted.itemsize
            if n_bytes <= len(raw) and entry.raw.startswith(raw[:n_bytes]):
                best = PrefixMatch(entry, _n_common(entry.tokens, wanted))
        if best.entry is not None:
            self._refresh(best.entry)
        return best

    def insert(self, tokens: npt.ArrayLike, table: BlockTable) -> None:
        """Keep a fork of `table`, whose first positions hold `tokens`; the caller keeps its own.

        Nothing is stored that an entry covers already (it is made the newest) or that exceeds the
        budget alone. Entries that the new one covers are dropped, then the least recently used.
        """
        tokens = _as_tokens(tokens)
        assert len(tokens) <= table.n_tokens, f"{len(tokens)} tokens, {table.n_tokens} positions"
        raw = tokens.tobytes()
        for entry in self._entries:
            if entry.raw.startswith(raw):
                self._refresh(entry)
                return
        n_blocks = -(-len(tokens) // table.block_tokens)
        if n_blocks * self._block_bytes > self._byte_budget:
            return
        for entry in self._entries.copy():
            if raw.startswith(entry.raw):
                self._drop(entry)
        fork = table.fork()
        fork.truncate(len(tokens))
        self._entries.append(PrefixEntry(raw, fork))
        self._n_users.update(fork.ids.tolist())
        while self.n_bytes > self._byte_budget:
            self.evict_one()

    def evict_one(self) -> bool:
        """Drop the least recently used entry; False if there is none."""
        if not self._entries:
            return False
        self._drop(self._entries[0])
        return True

    def clear(self) -> None:
        while self.evict_one():
            pass

    def _refresh(self, entry: PrefixEntry) -> None:
        self._entries.remove(entry)
        self._entries.append(entry)

    def _drop(self, entry: PrefixEntry) -> None:
        self._entries.remove(entry)
        for id in entry.table.ids.tolist():
            self._n_users[id] -= 1
            if self._n_users[id] == 0:
                del self._n_users[id]
        entry.table.release()


def _as_tokens(tokens: npt.ArrayLike) -> Tokens:
    """Copy, so that the caller may go on using its own."""
    return np.array(tokens, dtype=np.int32)


def _n_common(a: Tokens, b: Tokens) -> int:
    """Length of the common prefix."""
    n = min(len(a), len(b))
    differing = np.flatnonzero(a[:n] != b[:n])
    return int(differing[0]) if len(differing) else n
