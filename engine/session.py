"""Session: one sequence's state with undo. Nothing else touches that state.

Invariant: the KV blocks describe exactly `tokens`. A verified tree lies beyond them and is
forgotten unless a path through it is accepted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from engine.backends.backend import KV_BLOCK_TOKENS, Bytes, Floats, Int32s, KvCache, Model
from engine.errors import ContextOverflowError, RequestError
from engine.kv_blocks import BlockPool, BlocksExhaustedError, BlockTable, Copy
from engine.speculation.draft import ROOT


class StepCancelled(Exception):
    """A step was cancelled on its way; the session is as it was before it."""


@dataclass(frozen=True)
class Snapshot:
    """A session's state at one moment; shares its blocks until one side writes."""

    tokens: tuple[int, ...]
    table: BlockTable

    def release(self) -> None:
        self.table.release()


Likeliest = tuple[Int32s, Floats]


class Verified:
    """The results of one step, by selected row: argmax (R), and what must be asked for before the
    next step of the model, as most steps do without: logits (R, V), or the best of them. `logits`
    has those of the rows from one on, before another."""

    def __init__(
        self,
        argmax: list[int],
        logits: Callable[[int, int], Floats],
        likeliest: Callable[[int], Likeliest],
    ) -> None:
        self.argmax = argmax
        self._logits = logits
        self._likeliest = likeliest
        self._found: dict[int, Likeliest] = {}

    @cached_property
    def logits(self) -> Floats:
        return self._logits(0, len(self.argmax))

    def logits_of(self, row: int) -> Floats:
        """(V,): a device's are many bytes to fetch."""
        return self._logits(row, row + 1)[0]

    def likeliest(self, k: int) -> Likeliest:
        """Ids and logits (R, k) of the best of each row, best first; at most V."""
        if k not in self._found:
            self._found[k] = self._likeliest(k)
        return self._found[k]


class Session:
    """A sequence under construction.

    Raises ContextOverflowError when it would grow past `n_ctx` tokens.
    """

    def __init__(self, model: Model, kv: KvCache, pool: BlockPool, n_ctx: int) -> None:
        self._model = model
        self._kv = kv
        self._pool = pool
        self._n_ctx = n_ctx
        self._table = BlockTable(pool, KV_BLOCK_TOKENS)
        self._verified: tuple[int, ...] = ()
        self._is_followed = False
        self.tokens: list[int] = []

    @property
    def n_free(self) -> int:
        """Tokens that fit before the context is full."""
        return self._n_ctx - len(self.tokens)

    @property
    def table(self) -> BlockTable:
        return self._table

    def append(self, tokens: Sequence[int], n_logits: int = 1) -> Verified:
        """Commits `tokens` in chunks and returns the results of the last `n_logits` of them.

        `n_logits` is at most the model's max_out_rows. Raises StepCancelled; what earlier chunks
        committed stays.
        """
        if not tokens or not 0 <= n_logits <= min(len(tokens), self._model.max_out_rows):
            raise RequestError(f"cannot return {n_logits} rows of {len(tokens)} appended tokens")
        # The chunk with the results holds all of them, so the ones before it end at a fixed place.
        n_before = max(len(tokens) - self._model.max_rows, 0)
        n_before = min(n_before, len(tokens) - n_logits)
        for start in range(0, n_before, self._model.max_rows):
            self._commit_chain(tokens[start : min(start + self._model.max_rows, n_before)], 0)
        return self._commit_chain(tokens[n_before:], n_logits)

    def verify(
        self,
        tokens: Sequence[int],
        parents: Sequence[int],
        out_rows: Sequence[int] | None = None,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> Verified:
        """Computes a tree of rows without committing any; does `meanwhile` what need not wait for
        its results.

        Row i holds tokens[i] and continues row parents[i], which precedes it, or the committed
        sequence (ROOT). Results are those of `out_rows` (ascending; default all). Raises
        StepCancelled with the session unchanged.
        """
        rows = range(len(tokens)) if out_rows is None else out_rows
        self._step(self._model, tokens, parents, rows)
        self._verified = tuple(tokens)
        meanwhile()
        model, n_rows = self._model, len(rows)
        return Verified(
            model.argmax(n_rows),
            lambda first, end: model.logits(end, first),
            lambda k: model.likeliest(n_rows, k),
        )

    def run_block(self, model: Model, tokens: Sequence[int], out_rows: Sequence[int]) -> None:
        """Runs another model of the same KV cache on rows after the committed ones: a drafter.

        The results are that model's. Raises StepCancelled. What a verified tree left is gone; the
        session is otherwise as it was.
        """
        self._step(model, tokens, range(ROOT, len(tokens) - 1), out_rows)
        self._rewind()

    def draft_below(self, model: Model, tokens: Sequence[int], out_rows: Sequence[int]) -> bool:
        """As `run_block`, below what the tree being verified decides greedily, before it is known:
        for the time of `verify` that is left to do something else, where all rows' results were
        asked for and the beginning of that path is what will be accepted. tokens[0] is found
        together with it. False where there is no room or it was cancelled: nothing was begun."""
        n_past = len(self.tokens)
        n_most = n_past + len(self._verified) + len(tokens)
        if n_most > self._n_ctx:
            return False
        try:
            self._copy(self._table.grow_to(n_most))
        except BlocksExhaustedError:
            return False
        ids = self._table.ids
        self._is_followed = model.follow(self._kv, _ints(tokens), ids, n_past, _ints(out_rows))
        return self._is_followed

    def accept(self, path: Sequence[int]) -> None:
        """Commits the rows of the last verified tree that `path` names, root first."""
        n_past = len(self.tokens)
        # Rows ascend along a path, so a source is never overwritten early.
        moved = [(row, depth) for depth, row in enumerate(path) if row != depth]
        if moved and not self._is_followed:
            slot = self._slot
            self._kv.move_positions([(slot(n_past + a), slot(n_past + b)) for a, b in moved])
        self.tokens += [self._verified[row] for row in path]
        self._rewind()

    def truncate(self, n_tokens: int) -> None:
        """Forgets the tokens from `n_tokens` on."""
        del self.tokens[n_tokens:]
        self._rewind()

    def snapshot(self) -> Snapshot:
        self._rewind()
        return Snapshot(tuple(self.tokens), self._table.fork())

    def restore(self, snapshot: Snapshot) -> None:
        """Becomes what the snapshot was; the snapshot stays usable."""
        self.resume(snapshot.tokens, snapshot.table)

    def resume(self, tokens: Sequence[int], table: BlockTable) -> None:
        """Becomes the sequence `tokens` whose state `table` holds (it may hold more)."""
        self.release()
        self._table = table.fork()
        self.tokens = list(tokens)
        self._rewind()

    def state(self) -> Bytes:
        """The bytes of the blocks that hold the tokens, in order."""
        self._rewind()
        return np.concatenate([self._kv.read_block(int(block)) for block in self._table.ids])

    def fill(self, tokens: Sequence[int], state: Bytes) -> None:
        """Becomes the sequence `tokens` whose `state` was taken before."""
        self.release()
        self._copy(self._table.grow_to(len(tokens)))
        self.tokens = list(tokens)
        blocks = state.reshape(-1, self._kv.block_bytes)
        for block, content in zip(self._table.ids, blocks, strict=True):
            self._kv.write_block(int(block), content)

    def state_bytes(self, n_tokens: int) -> int:
        """How many bytes the state of so many tokens has."""
        return -(-n_tokens // KV_BLOCK_TOKENS) * self._kv.block_bytes

    def release(self) -> None:
        """Gives all blocks back; the session is empty afterwards."""
        self.truncate(0)

    def _commit_chain(self, tokens: Sequence[int], n_logits: int) -> Verified:
        n = len(tokens)
        result = self.verify(tokens, range(ROOT, n - 1), range(n - n_logits, n))
        self.accept(range(n))
        return result

    def _step(
        self,
        model: Model,
        tokens: Sequence[int],
        parents: Sequence[int],
        out_rows: Sequence[int],
    ) -> None:
        n_past, n_rows = len(self.tokens), len(tokens)
        self._rewind()
        if n_past + n_rows > self._n_ctx:
            raise ContextOverflowError(n_past + n_rows, self._n_ctx)
        self._copy(self._table.grow_to(n_past + n_rows + self._n_ahead(n_rows)))
        finished = False
        try:
            finished = model.step(
                self._kv,
                _ints(tokens),
                _ints(parents),
                self._table.ids,
                n_past,
                _ints(out_rows),
            )
        finally:
            if not finished:
                self._rewind()
        if not finished:
            raise StepCancelled

    def _n_ahead(self, n_rows: int) -> int:
        """Of a single row, room for the one that a device may go on with by itself, as far as
        nobody has to give it up: for one more block, and one that is written anew."""
        is_free = len(self.tokens) + n_rows < self._n_ctx and self._pool.n_free >= 2
        return int(n_rows == 1 and is_free)

    def _rewind(self) -> None:
        self._verified, self._is_followed = (), False
        self._table.truncate(len(self.tokens))

    def _copy(self, copies: list[Copy]) -> None:
        for copy in copies:
            self._kv.copy_block(copy.src, copy.dst)

    def _slot(self, position: int) -> int:
        block = int(self._table.ids[position // KV_BLOCK_TOKENS])
        return block * KV_BLOCK_TOKENS + position % KV_BLOCK_TOKENS


def _ints(values: Sequence[int]) -> NDArray[np.int32]:
    if isinstance(values, range):  # which NumPy would take number by number
        return np.arange(values.start, values.stop, values.step, dtype=np.int32)
    return np.array(values, np.int32)
