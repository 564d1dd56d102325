"""What a step of a Program must move and compute on a GPU, and how long that takes at given rates.

Counts the fused ops that the GPU backend launches (engine/backends/gpu/fusing.py), with weights as
it packs them; tests hold the counts to the real launches. Which kernels linear ops are depends on
how many multiprocessors share their blocks, of a device that copies nothing beside the work. Those
of many rows are assumed to read a matrix from memory once: blocks of the same weights are launched
side by side, and all but the first find them in the device's cache. Knows no device's rates.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from engine.backends.arena import activations_of
from engine.backends.gpu.defaults import defaults_of
from engine.backends.gpu.fusing import (
    AttentionRound,
    HeadsWrite,
    KvStore,
    Linears,
    RopeWrite,
    Rounded,
    Target,
    fuse,
)
from engine.backends.gpu.launch import ceil_div
from engine.backends.gpu.linear_shape import LinearShape, merges_later, rounds_itself
from engine.backends.gpu.lowering import SPLIT_ROWS
from engine.backends.gpu.one_row import of_one_row
from engine.backends.gpu.packing import BLOCK, TILE_ROWS, Format, format_of, packed_bytes
from engine.backends.gpu.splits import split_room
from engine.ops import Activation, Argmax, Attention, Op, Rows
from engine.program import Program

HALF_BYTES = 2
PREFILL_ROWS = 512
N_UNITS = 40  # of the device that is predicted, a Strix Halo
# What the kernels of linear ops are called by: rows that one pass serves, or linear_many.h's.
KERNELS = ("16", "32", "64", "narrow_many", "many")


@dataclass(frozen=True)
class Work:
    """One fused op of one step.

    `tiles` are products of 16 rows of weights, a block of 32 columns and 16 rows of activations, by
    format, which `kernel` multiplies; `n_passes` how often the weights are gone through;
    `other_bytes` activations, keys and values; `attention_flops` multiplications and additions with
    keys and values.
    """

    name: str
    n_launches: int
    weight_bytes: int = 0
    n_passes: int = 1
    other_bytes: int = 0
    tiles: Mapping[Format, int] = field(default_factory=dict[Format, int])
    kernel: str = KERNELS[0]
    attention_flops: float = 0.0


def count(
    program: Program,
    n_rows: int,
    n_past: int,
    n_out: int,
    extra: Sequence[Work] = (),
    n_units: int = N_UNITS,
) -> list[Work]:
    """The work of a step of `n_rows` after `n_past` positions that asks for `n_out` rows, and what
    is no op of the table, `extra`; over a KV cache in f16."""
    found: list[Work] = []
    ops = of_one_row(program.ops, program.result) if n_rows == 1 else (program.ops, program.result)
    fused = fuse(*ops)
    one_rows = {
        part.out
        for op in fused
        if isinstance(op, Linears) and op.rounding is not None
        for part in op.parts
        if rounds_itself(op.rounding, _rows_of(op.x, n_rows, n_out))
    }
    for op in fused:
        match op:
            case Linears():
                found.append(_linears(op, n_rows, n_out, n_units))
            case Attention() | AttentionRound():
                found.append(_attention(op, n_rows, n_past, n_out))
            case KvStore():
                pass  # of a cache in q8_0
            case _:
                # What makes a single row finds the best of its parts, too.
                is_split = isinstance(op, Argmax) and op.x not in one_rows
                other = _activation_bytes(op, n_rows, n_out)
                turned = op.turned if isinstance(op, HeadsWrite) else op
                if isinstance(turned, RopeWrite):
                    kv = turned.write.kv
                    other += 2 * n_rows * kv.n_kv * kv.head_dim * HALF_BYTES
                found.append(Work(type(op).__name__, 1 + is_split, other_bytes=other))
    return [*found, *extra]


def _linears(op: Linears, n_rows: int, n_out: int, n_units: int) -> Work:
    rows = _rows_of(op.x, n_rows, n_out)
    n_blocks = op.x.width // BLOCK
    # A single row is rounded by the op itself.
    is_rounded_before = op.rounding is not None and not rounds_itself(op.rounding, rows)
    shape, n_row_tiles = LinearShape(op, 0, 0, n_units, defaults_of("")), ceil_div(rows, TILE_ROWS)
    many, n_cols = shape.many(rows), shape.row_tiles(rows)
    tiles: dict[Format, int] = {}
    n_bytes = 0
    for weight in (weight for part in op.parts for weight in part.weights):
        n_bytes += packed_bytes(weight.type_id, weight.n_out, weight.n_cols)
        n = ceil_div(weight.n_out, TILE_ROWS) * n_blocks * n_row_tiles
        kind = format_of(weight.type_id)
        tiles[kind] = tiles.get(kind, 0) + n
    stored = (Target.KEY, Target.VALUE)
    written = tuple(part.out for part in op.parts if part.target not in stored)
    return Work(
        name="Linears",
        n_launches=1 + is_rounded_before,
        weight_bytes=n_bytes,
        n_passes=1 if many else ceil_div(n_row_tiles, n_cols),
        other_bytes=_activation_bytes(replace(op, outs=written), n_rows, n_out),
        tiles=tiles,
        kernel=many.name if many else str(TILE_ROWS * n_cols),
    )


def _attention(op: Attention | AttentionRound, n_rows: int, n_past: int, n_out: int) -> Work:
    of = op.attention if isinstance(op, AttentionRound) else op
    rows = _rows_of(of.q, n_rows, n_out)
    keys = n_past + n_rows if of.is_block else n_past + (n_rows + 1) / 2  # of a row, on average
    keys = min(keys, of.window) if of.window else keys
    kv_bytes = 2 * (n_past + n_rows) * of.kv.n_kv * of.kv.head_dim * HALF_BYTES
    if of.window:
        kv_bytes = min(kv_bytes, 2 * (of.window + n_rows) * of.kv.n_kv * of.kv.head_dim * 2)
    # Splits are merged, rounded at once, if not by the op that reads the result; without splits,
    # rounding is a launch of its own.
    is_split = n_rows <= SPLIT_ROWS
    is_later = isinstance(op, AttentionRound) and op.is_merged_later and is_split
    is_later = is_later and merges_later(of, rows, split_room(n_past + n_rows))
    return Work(
        name="Attention",
        n_launches=1 + ((is_split and not is_later) or (not is_split and of is not op)),
        other_bytes=kv_bytes + _activation_bytes(op, n_rows, n_out),
        attention_flops=4.0 * rows * keys * of.n_head * of.kv.head_dim,
    )


def _rows_of(x: Activation, n_rows: int, n_out: int) -> int:
    return n_rows if x.rows is Rows.STEP else n_out


def _activation_bytes(op: Op, n_rows: int, n_out: int) -> int:
    return sum(_bytes_of(x, n_rows, n_out) for x in dict.fromkeys(activations_of(op)))


def _bytes_of(x: Activation, n_rows: int, n_out: int) -> int:
    rows = _rows_of(x, n_rows, n_out)
    if not isinstance(x, Rounded):
        return 4 * rows * x.width
    return rows * (x.width * x.number_bytes + x.width // 4)  # two floats for each block of 32


@dataclass(frozen=True, kw_only=True)
class Rates:
    """How fast a device does each kind of work.

    `cycles` are those of one SIMD for a tile, by kernel and format; matrices of at most
    `cache_bytes` are read from memory in their first pass alone.
    """

    launch_us: float
    bytes_per_s: float
    cache_bytes: int
    cycles_per_s: float
    cycles: Mapping[tuple[str, Format], float]
    attention_flops_per_s: float

    def seconds(self, work: Work) -> float:
        is_cached = work.weight_bytes <= self.cache_bytes
        moved = work.weight_bytes * (1 if is_cached else work.n_passes) + work.other_bytes
        cycles = sum(n * self.cycles[work.kernel, kind] for kind, n in work.tiles.items())
        return work.n_launches * self.launch_us / 1e6 + max(
            moved / self.bytes_per_s,
            cycles / self.cycles_per_s + work.attention_flops / self.attention_flops_per_s,
        )

    def step_s(self, works: Sequence[Work]) -> float:
        return sum(self.seconds(work) for work in works)


def prefill_s(
    rates: Rates,
    program: Program,
    n_tokens: int,
    extra: Callable[[int], Sequence[Work]] = lambda _: (),
    n_rows: int = PREFILL_ROWS,
) -> float:
    """Reading a text in steps of `n_rows`, the last token's logits asked for; `extra` has what else
    a step of so many rows does."""
    total = 0.0
    for start in range(0, n_tokens, n_rows):
        n = min(n_rows, n_tokens - start)
        total += rates.step_s(count(program, n, start, 1, extra(n)))
    return total
