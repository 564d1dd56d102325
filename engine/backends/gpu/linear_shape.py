"""How a linear op is launched: by which kernel, on how many blocks, with how much shared memory.

Holds no device.
"""

from dataclasses import dataclass

from engine.backends.gpu.defaults import Defaults
from engine.backends.gpu.driver import Grid
from engine.backends.gpu.fusing import Linears, Round, Source
from engine.backends.gpu.launch import SPLIT_KEYS, THREADS, Bucket, ceil_div
from engine.backends.gpu.packing import TILE_ROWS, RoundingKind
from engine.ops import Attention

_TALL_BLOCKS, _FEW_SLICES, _MANY_SLICES = 96, 8, 16  # native/gpu/linear.h
# A linear op rounds a single row itself, in every one of its blocks, or merges so many splits.
_ONE_THREADS, _MOST_ONE_WIDTH, _MOST_ONE_SPLITS = 512, 16384, 32
_MOST_TILES = 4  # of a block
# Where it attends, too (native/gpu/attend_one.h): a block's threads, the splits it works on at once
# and what each of them needs, the heads for which a tile of queries has room, the tiles of weights
# for whose results there are threads, and the heads' dimensions: larger ones have more weights than
# few multiprocessors multiply in the time that a launch takes.
_ATTEND_THREADS, _PARTS, _PART_BYTES, _MOST_GROUP, _MOST_SHARE = 256, 2, 3328, 16, 16
_ATTEND_DIMS = (32, 64)
# Up to so many rows weights are copied to shared memory ahead, where so many tiles of a
# multiprocessor fit at once; more are streamed as they are.
_MOST_STAGED_ROWS, _MOST_STAGED_TILES = 32, 10
# By tiles of rows: how many tiles a multiprocessor has at least for them to be wide, twice as many
# as it works on at once.
_LEAST_WIDE_TILES = {1: 6, 2: 4}
# More rows than that have kernels of their own (native/gpu/linear_many.h).
_MOST_FEW_ROWS, _MANY_THREADS = 32, 128


@dataclass(frozen=True)
class ManyShape:
    """Tiles of weights and of rows that a block of a linear op of many rows has, whether its sums
    are in shared memory where copies run beside the work, and how many blocks a multiprocessor must
    have for it to pay."""

    name: str
    tiles: int
    row_tiles: int
    shares_totals: bool
    least_blocks: float

    def shared_bytes(self, *, copies_ahead: bool) -> int:
        """As linear_many.h lays it out, of the widest format: numbers, scales and sums."""
        n_staged = 6 if copies_ahead else 2
        of_stages = n_staged * (self.tiles * (32 + 4) + self.row_tiles * (32 + 8))
        has_totals = self.shares_totals and copies_ahead
        of_totals = 4 * TILE_ROWS * self.tiles * self.row_tiles if has_totals else 0
        return TILE_ROWS * (of_stages + of_totals)


_MANY = ManyShape("many", 8, 4, shares_totals=True, least_blocks=1.5)
_NARROW_MANY = ManyShape("narrow_many", 4, 2, shares_totals=False, least_blocks=2)


def rounds_itself(rounding: Round, n_rows: int) -> bool:
    """Whether a linear op of so many rows does it in its own blocks."""
    is_known = rounding.source is not Source.SILU_MUL
    return is_known and n_rows == 1 and rounding.x.width <= _MOST_ONE_WIDTH


def merges_later(op: Attention, n_rows: int, n_splits: int) -> bool:
    """Whether the linear op that reads attention's result merges its splits, too."""
    is_few = n_rows == 1 and 0 < n_splits <= _MOST_ONE_SPLITS
    return is_few and op.q.width <= _MOST_ONE_WIDTH


@dataclass(frozen=True)
class LinearShape:
    """Of an op whose matrices have `n_tiles` tiles, of `tile_bytes` at most, on a device of
    `n_units` multiprocessors."""

    op: Linears
    n_tiles: int
    tile_bytes: int
    n_units: int
    defaults: Defaults

    @property
    def is_tall(self) -> bool:
        """The sums of a tall matrix are shared by twice as many warps."""
        return self.op.x.width // 32 >= _TALL_BLOCKS

    def tiles_of_block(self, bucket: Bucket) -> int:
        """Of a single row: few blocks, for each rounds the row for itself, with no more tiles than
        their warps have room for, unless only then all blocks fit at once."""
        if (attention := self.attended(bucket)) is not None:
            return self._share(attention)
        usual = _MOST_TILES // (1 + self.is_tall)
        to_fit = ceil_div(self.n_tiles, 2 * self.n_units)
        if usual < to_fit <= 2 * usual:
            return to_fit
        return min(ceil_div(self.n_tiles, self.n_units), usual)

    def merges(self, bucket: Bucket) -> bool:
        merged, n_rows = self.op.merged, self._rows(bucket)
        return merged is not None and merges_later(merged, n_rows, bucket.n_splits)

    def is_one(self, bucket: Bucket) -> bool:
        """Whether the kernels of a single row do it (linear_one.h)."""
        rounding = self.op.rounding
        rounds = rounding is not None and rounds_itself(rounding, self._rows(bucket))
        return rounds or self.merges(bucket)

    def n_best(self, bucket: Bucket) -> int | None:
        """How many chunks of its results it notes the best of, for an argmax: those of each warp's
        two tiles; None where it notes none."""
        if not self.is_one(bucket) or self.attended(bucket) is not None:
            return None
        n, n_blocks = self.tiles_of_block(bucket), self.grid(bucket)[0]
        return (n_blocks - 1) * ceil_div(n, 2) + ceil_div(self.n_tiles - (n_blocks - 1) * n, 2)

    def attended(self, bucket: Bucket) -> Attention | None:
        """The attention that reads its results, where it does the splits, too."""
        op, n_blocks = self.op.attended, self.defaults.cluster
        if op is None or n_blocks == 0 or bucket.kv_type != "f16" or not self.is_one(bucket):
            return None
        has_room = op.n_head // op.kv.n_kv <= _MOST_GROUP and self._share(op) <= _MOST_SHARE
        fits = has_room and self._share(op) * self.tile_bytes <= self.defaults.cluster_bytes
        # More than twice what is attended to at once is left to blocks of its own.
        is_short = 0 < bucket.n_splits <= 2 * n_blocks * _PARTS
        is_known = op.kv.head_dim in _ATTEND_DIMS and not self.is_tall
        return op if fits and is_short and is_known else None

    def _share(self, op: Attention) -> int:
        """Tiles of a block, of those that belong to a KV head."""
        return ceil_div(self.n_tiles // op.kv.n_kv, self.defaults.cluster)

    def _attend_bytes(self, op: Attention) -> int:
        """As attend_one.h lays it out: a linear op's, the mailbox, a head's queries, the new key
        and value, the last split, and what each four warps need."""
        group, dims = op.n_head // op.kv.n_kv, op.kv.head_dim
        share = self._share(op)
        of_attention = 16 + 4 * (group + 2 + SPLIT_KEYS) * dims + _PARTS * _PART_BYTES
        return self._one_bytes(share) + share * self.tile_bytes + of_attention

    def kernel(self, bucket: Bucket) -> str:
        if (attention := self.attended(bucket)) is not None:
            return f"attend_one_{attention.kv.head_dim}"
        name = "linear_tall" if self.is_tall else "linear"
        if self.op.merged is not None and self.merges(bucket):
            return f"{name}_merge_{self.op.merged.kv.head_dim}"
        if self.is_one(bucket):
            return f"{name}_one"
        if self._is_half:
            name += "_half"
        n_rows = self._rows(bucket)
        if (many := self.many(n_rows)) is not None:
            return f"{name}_{many.name}"
        # Half a tile of rows has kernels of its own.
        if n_rows <= TILE_ROWS // 2:
            return f"{name}_{TILE_ROWS // 2}"
        row_tiles = self.row_tiles(n_rows)
        wide = "_wide" if self._is_wide(row_tiles) else ""
        return f"{name}{wide}_{TILE_ROWS * row_tiles}"

    def _is_wide(self, row_tiles: int) -> bool:
        """Whether it has many blocks for each multiprocessor, so that it pays to have more of them
        work at once, each on less."""
        least = _LEAST_WIDE_TILES.get(row_tiles)
        if least is None or self.is_tall or self._is_half or not self.defaults.has_wide_linears:
            return False
        return self.n_tiles > least * self.n_units

    def many(self, n_rows: int) -> ManyShape | None:
        """The widest that leaves no multiprocessor without blocks; None where others serve."""
        if n_rows <= _MOST_FEW_ROWS or self._is_half:
            return None
        # Wide ones that copy ahead need more shared memory than most devices have.
        has_room = self.defaults.has_wide_linears or not self.defaults.copies_ahead
        for many in (_MANY, _NARROW_MANY) if has_room else (_NARROW_MANY,):
            n_x, n_y = self._many_blocks(many, n_rows)
            if n_x * n_y >= many.least_blocks * self.n_units:
                return many
        return None

    def _many_blocks(self, many: ManyShape, n_rows: int) -> tuple[int, int]:
        """Those along the rows, and along the matrices, each of one of them. Neighbours along x
        work at the same time, on the same weights, which are read from memory once for all rows."""
        n_outs = [sum(weight.n_out for weight in part.weights) for part in self.op.parts]
        n_y = sum(ceil_div(n, TILE_ROWS * many.tiles) for n in n_outs)
        return ceil_div(n_rows, TILE_ROWS * many.row_tiles), n_y

    def grid(self, bucket: Bucket) -> Grid:
        if (attention := self.attended(bucket)) is not None:
            return self.defaults.cluster, attention.kv.n_kv, 1
        if self.is_one(bucket):
            return ceil_div(self.n_tiles, self.tiles_of_block(bucket)), 1, 1
        n_rows = self._rows(bucket)
        if (many := self.many(n_rows)) is not None:
            return *self._many_blocks(many, n_rows), 1
        return self.n_tiles, ceil_div(n_rows, TILE_ROWS * self.row_tiles(n_rows)), 1

    def n_threads(self, bucket: Bucket) -> int:
        if self.attended(bucket) is not None:
            return _ATTEND_THREADS
        if self.many(self._rows(bucket)) is not None:
            return _MANY_THREADS
        return _ONE_THREADS if self.is_tall or self.is_one(bucket) else THREADS

    def staged_bytes(self, bucket: Bucket) -> int:
        """Of a block's tiles in shared memory; 0 where they do not come there."""
        n = self.tile_bytes * (self.tiles_of_block(bucket) if self.is_one(bucket) else 1)
        if self.attended(bucket) is not None:
            return n
        is_small = self._rows(bucket) <= _MOST_STAGED_ROWS
        fits = n <= self.defaults.staged_bytes and self.n_tiles <= _MOST_STAGED_TILES * self.n_units
        return n if is_small and fits else 0

    def shared_bytes(self, bucket: Bucket) -> int:
        if (attention := self.attended(bucket)) is not None:
            return self._attend_bytes(attention)
        if (many := self.many(self._rows(bucket))) is not None:
            return many.shared_bytes(copies_ahead=self.defaults.copies_ahead)
        n_own = self._one_bytes(self.tiles_of_block(bucket)) if self.is_one(bucket) else 0
        return self.staged_bytes(bucket) + n_own

    def cluster(self, bucket: Bucket) -> int:
        """Blocks that work together."""
        return 1 if self.attended(bucket) is None else self.defaults.cluster

    @property
    def _is_half(self) -> bool:
        return self.op.x.kind is RoundingKind.HALVES

    def _rows(self, bucket: Bucket) -> int:
        return bucket.rows(self.op.x.rows)

    def row_tiles(self, n_rows: int) -> int:
        """Tiles of rows that one pass over a matrix serves."""
        n = ceil_div(n_rows, TILE_ROWS)
        if n <= 2:
            return n
        return self.defaults.tall_linear_tiles if self.is_tall else self.defaults.linear_tiles

    def _one_bytes(self, n_tiles: int) -> int:
        """As linear_one.h lays it out: the row as it is rounded, its stretches' squares, and sums
        by tile and slice."""
        width, n_slices = self.op.x.width, _MANY_SLICES if self.is_tall else _FEW_SLICES
        rounded = width + width // 32 * 8 + 4 * ceil_div(width, THREADS)
        sums = 4 * n_tiles * n_slices * (TILE_ROWS + 1)
        return 16 * ceil_div(rounded + sums, 16)
