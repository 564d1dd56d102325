"""From fused ops to launches: which kernel, with which arguments, on how many blocks."""

import ctypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from engine.backends.backend import Bytes
from engine.backends.gpu import args as A
from engine.backends.gpu.choices import choose_args, most_top
from engine.backends.gpu.device_weights import DeviceWeights, Matrix
from engine.backends.gpu.driver import Address
from engine.backends.gpu.fusing import (
    AttentionRound,
    HeadsWrite,
    KvStore,
    Linears,
    Part,
    RopeWrite,
    Round,
    Rounded,
    Source,
    Target,
)
from engine.backends.gpu.kv import GpuKvCache
from engine.backends.gpu.launch import THREADS, Bucket, Launch, ceil_div, prefill_bytes
from engine.backends.gpu.linear_shape import LinearShape, merges_later
from engine.backends.gpu.packing import TILE_ROWS, RoundingKind, block_bytes_of
from engine.backends.gpu.sparse import is_sparse, sparse_launches
from engine.backends.gpu.step import MOST_TREE_ROWS
from engine.errors import NativeError
from engine.ops import (
    Activation,
    Argmax,
    Attention,
    Concat,
    Embed,
    Op,
    RmsNorm,
    Rows,
    SelectRows,
    SiluMul,
    TopK,
    Weight,
)

_QUERIES, _ATTENTION_WARPS, _HEADS = 16, 4, (32, 64, 128)  # native/gpu/attention.h
_MOST_LINEAR_TILES = 4
_MOST_WIDTH = 32768  # native/gpu/rows.h: kMostStretches
# What is asked for ahead must still be in the device's cache when it is read.
_MOST_AHEAD_BYTES = 16 * 2**20
# Up to so many rows each split of the keys has blocks of its own.
SPLIT_ROWS = 64
_KV_GROUP = 32  # native/gpu/kv.h: kKvGroup
# What becomes of keys and values first, where KvStore stores them.
_WRITTEN_FIRST = {int(Target.KEY): int(Target.QUERY), int(Target.VALUE): int(Target.WRITTEN)}


class _Maker(NamedTuple):
    args: A.LinearArgs
    shape: LinearShape


class Lowering:
    """Turns ops into launches; `place` says where activations lie, `scratch` where parts of
    attention and choices go; `n_units` multiprocessors share the blocks."""

    def __init__(
        self,
        step: Address,
        weights: Mapping[str, Bytes],
        device: DeviceWeights,
        place: Callable[[Activation], Address],
        scratch: Mapping[str, Address],
        most_rows: Mapping[Rows, int],
        n_units: int,
    ) -> None:
        self._step, self._weights, self._device = step, weights, device
        self._place, self._scratch, self._most_rows = place, scratch, most_rows
        self._n_units = n_units
        self._last_linear: A.LinearArgs | None = None
        self._makers: dict[Attention, LinearShape] = {}  # of linear ops that may attend, too
        self._alone: dict[Activation, _Maker] = {}  # what linear ops make that make nothing else

    def lower(self, op: Op) -> Sequence[Launch]:
        match op:
            case Embed():
                return [self._embed(op)]
            case RmsNorm():
                return [self._rms_norm(op)]
            case Round():
                return [self._round(op)]
            case Linears():
                return self._linears(op)
            case RopeWrite():
                return [self._rope_write(op)]
            case HeadsWrite():
                return [self._heads_write(op)]
            case KvStore():
                return [self._kv_store(op)]
            case Attention():
                return self._attention(op, None, is_merged_later=False)
            case AttentionRound():
                return self._attention(op.attention, op.rounded, is_merged_later=op.is_merged_later)
            case SiluMul():
                return [self._silu_mul(op)]
            case SelectRows():
                return [self._copy([op.x], 0, op.out, takes_selected=True)]
            case Concat():
                return self._concat(op)
            case Argmax():
                return self._argmax(op.x)
            case TopK():
                return self._top_k(op.x, op.k)
            case _:
                raise NativeError("lowering", f"no GPU op for {type(op).__name__}")

    # ---- rows ----

    def _rowwise(self, name: str, x: Activation, n_x: int, args: ctypes.Structure) -> Launch:
        """A kernel with a block for each row and so many parts of it."""
        rows = x.rows
        return Launch(lambda _: name, lambda b: (n_x, b.rows(rows), 1), lambda _, __: args)

    def _embed(self, op: Embed) -> Launch:
        table = self._device.table(op.table, self._weights[op.table.name])
        args = A.EmbedArgs(
            self._step, table.quants, table.scales, self._place(op.out), table.format,
            op.out.width,
        )  # fmt: skip
        return self._rowwise("embed", op.out, ceil_div(op.out.width, THREADS), args)

    def _rms_norm(self, op: RmsNorm) -> Launch:
        group = op.weight.n_cols
        if group > _MOST_WIDTH:
            raise NativeError("rms_norm", f"rows of {group}, expected <= {_MOST_WIDTH}")
        args = A.NormArgs(
            self._step, self._place(op.x), self._vector(op.weight), self._place(op.out),
            op.x.width, group, _is_selected(op.x), op.eps,
        )  # fmt: skip
        return self._rowwise("rms_norm", op.x, op.x.width // group, args)

    def _round(self, op: Round) -> Launch:
        args = A.QuantizeArgs(
            self._step, self._rounding(op), self._place(op.out), self._scales(op.out),
            _is_selected(op.x),
        )  # fmt: skip
        return self._rowwise(
            _of_kind("quantize", op.out), op.x, ceil_div(op.x.width, 8 * THREADS), args
        )

    def _rounding(self, op: Round) -> A.Rounding:
        other = 0
        if isinstance(op.other, Weight):
            other = self._vector(op.other)
        elif op.other is not None:
            other = self._place(op.other)
        assert op.source is not Source.NORMED or isinstance(op.other, Weight)
        if op.x.width > _MOST_WIDTH:
            raise NativeError("quantize", f"rows of {op.x.width}, expected <= {_MOST_WIDTH}")
        is_super = op.out.kind is RoundingKind.SUPER
        return A.Rounding(self._place(op.x), other, op.x.width, op.source, is_super, op.eps)

    def _silu_mul(self, op: SiluMul) -> Launch:
        args = A.SiluMulArgs(
            self._step, self._place(op.gate), self._place(op.up), self._place(op.out),
            op.out.width, _is_selected(op.out),
        )  # fmt: skip
        return self._rowwise("silu_mul", op.out, ceil_div(op.out.width, THREADS), args)

    def _concat(self, op: Concat) -> list[Launch]:
        launches: list[Launch] = []
        first = 0
        for start in range(0, len(op.parts), A.MOST_COPIES):
            parts = op.parts[start : start + A.MOST_COPIES]
            launches.append(self._copy(parts, first, op.out))
            first += sum(part.width for part in parts)
        return launches

    def _copy(
        self,
        parts: Sequence[Activation],
        first: int,
        out: Activation,
        *,
        takes_selected: bool = False,
    ) -> Launch:
        """`parts` side by side, from column `first` on."""
        args = A.CopyArgs(
            self._step, self._place(out), len(parts), out.width, _is_selected(out), takes_selected
        )
        for to, part in zip(args.parts, parts, strict=False):
            to.x, to.width, to.first = self._place(part), part.width, first
            first += part.width
        return self._rowwise("copy_rows", out, ceil_div(first, THREADS), args)

    # ---- matrices ----

    def _linears(self, op: Linears) -> list[Launch]:
        args, tile_bytes, weight_bytes = self._linear_args(op)
        if self._last_linear is not None and weight_bytes <= _MOST_AHEAD_BYTES:
            _look_ahead(self._last_linear, args)
        self._last_linear = args
        shape = LinearShape(op, args.n_tiles, tile_bytes, self._n_units, self._device.defaults)
        if op.attended is not None:
            self._makers[op.attended] = shape
        if len(op.parts) == 1 and op.parts[0].target is Target.WRITTEN:
            self._alone[op.parts[0].out] = _Maker(args, shape)

        def make(bucket: Bucket, kv: GpuKvCache) -> A.LinearArgs:
            made = A.LinearArgs.from_buffer_copy(args)
            made.tiles_of_block = shape.tiles_of_block(bucket)
            made.staged_bytes = tile_bytes if shape.staged_bytes(bucket) else 0
            if op.turning is not None:
                made.turning.kv = kv.place(op.turning.kv)
                for part in made.parts[: len(op.parts)] if kv.kv_type == "q8_0" else ():
                    part.target = _WRITTEN_FIRST.get(part.target, part.target)
            if (attention := shape.attended(bucket) or op.merged) is not None:
                made.attention = self._attention_args(attention, bucket, kv)
            return made

        multiply = Launch(
            shape.kernel, shape.grid, make, shape.n_threads, weight_bytes, shape.shared_bytes,
            shape.cluster,
        )  # fmt: skip
        if op.rounding is None:
            return [multiply]

        def round_kernel(bucket: Bucket) -> str:
            return "" if shape.is_one(bucket) else "quantize"

        return [replace(self._round(op.rounding), kernel=round_kernel), multiply]

    def _linear_args(self, op: Linears) -> tuple[A.LinearArgs, int, int]:
        """What does not depend on the step; the bytes of the largest tile and of all."""
        x = op.x
        args = A.LinearArgs(
            self._step, self._place(x), self._scales(x), len(op.parts), x.width // 32,
            _is_selected(x), 0,
        )  # fmt: skip
        weight_bytes = tile_bytes = 0
        for to, part in zip(args.parts, op.parts, strict=False):
            matrix = self._matrix(part.weights, _pairs_of(op, part))
            to.quants, to.scales, to.format = matrix.quants, matrix.scales, matrix.format
            to.bias = 0 if part.bias is None else self._vector(part.bias)
            to.residual = 0 if part.residual is None else self._place(part.residual)
            to.out = self._place(part.out)
            to.n_out = sum(weight.n_out for weight in part.weights)
            to.target, to.first_tile = part.target, args.n_tiles
            args.n_tiles += ceil_div(to.n_out, TILE_ROWS)
            weight_bytes += matrix.n_bytes
            tile_bytes = max(tile_bytes, matrix.n_bytes // ceil_div(to.n_out, TILE_ROWS))
        if op.rounding is not None:
            args.rounding = self._rounding(op.rounding)
        args.rounding.is_super = x.kind is RoundingKind.SUPER
        if op.turning is not None:
            args.turning.table = self._device.turns(op.turning.rope.inverse_frequencies)
            args.turning.is_neox = op.turning.rope.is_neox
            args.turning.head_shift = op.turning.kv.head_dim.bit_length() - 1
        return args, tile_bytes, weight_bytes

    def _matrix(self, weights: Sequence[Weight], pairs: int | None = None) -> Matrix:
        data = [self._weights[weight.name] for weight in weights]
        return self._device.matrix(weights, data, pairs)

    def _scales(self, x: Rounded) -> Address:
        n_numbers = rounded_rows(self._most_rows[x.rows]) * x.width
        return self._place(x) + n_numbers * x.number_bytes

    def _vector(self, weight: Weight) -> Address:
        return self._device.vector(weight, self._weights[weight.name])

    # ---- keys and values ----

    def _rope_write(self, op: RopeWrite) -> Launch:
        kv_layer, make = op.write.kv, self._rope_write_args(op)
        n_pairs = 0 if op.rope is None else len(op.rope.inverse_frequencies)
        n_turned = 0 if op.q is None else op.q.width // kv_layer.head_dim * n_pairs
        n_items = n_turned + op.k.width - kv_layer.n_kv * n_pairs + op.v.width
        n_x = ceil_div(n_items, THREADS)
        return Launch(
            lambda b: b.of_cache("rope_write"), lambda b: (n_x, b.n_rows, 1), lambda _, kv: make(kv)
        )

    def _rope_write_args(self, op: RopeWrite) -> Callable[[GpuKvCache], A.RopeWriteArgs]:
        kv_layer, rope, q = op.write.kv, op.rope, op.q
        n_pairs = 0 if rope is None else len(rope.inverse_frequencies)
        n_head = 0 if q is None else q.width // kv_layer.head_dim
        addresses = (0 if q is None else self._place(q), self._place(op.k), self._place(op.v))
        table = 0 if rope is None else self._device.turns(rope.inverse_frequencies)
        return lambda kv: A.RopeWriteArgs(
            self._step, kv.place(kv_layer), *addresses, table, n_head, n_pairs,
            rope is not None and rope.is_neox, q is not None and _is_selected(q),
        )  # fmt: skip

    def _heads_write(self, op: HeadsWrite) -> Launch:
        turning, norms = self._rope_write_args(op.turned), (op.q_norm, op.k_norm)
        sources = [0 if norm is None else self._place(norm.x) for norm in norms]
        weights = [0 if norm is None else self._vector(norm.weight) for norm in norms]

        def make(_: Bucket, kv: GpuKvCache) -> A.HeadsArgs:
            return A.HeadsArgs(turning(kv), *sources, *weights, op.k_norm.eps, 0)

        widths = [x.width for x in (op.q, op.k, op.v) if x is not None]
        n_x = ceil_div(sum(widths) // op.turned.write.kv.head_dim, THREADS // 32)
        return Launch(lambda b: b.of_cache("heads_write"), lambda b: (n_x, b.n_rows, 1), make)

    def _kv_store(self, op: KvStore) -> Launch:
        q, dims = op.q, op.kv.head_dim
        addresses = [0 if x is None else self._place(x) for x in (q, op.k, op.v)]
        n_head = 0 if q is None else q.width // dims

        def make(_: Bucket, kv: GpuKvCache) -> A.KvStoreArgs:
            if dims % _KV_GROUP:
                raise NativeError("kv_store", f"heads of {dims}, expected a multiple of 32 in q8_0")
            is_q_selected = q is not None and _is_selected(q)
            return A.KvStoreArgs(
                self._step, kv.place(op.kv), *addresses, n_head, is_q_selected
            )  # fmt: skip

        n_groups = sum(x.width for x in (q, op.k, op.v) if x is not None) // _KV_GROUP
        n_x = ceil_div(n_groups, THREADS // 32)
        return Launch(
            lambda b: "" if b.kv_type == "f16" else b.of_cache("kv_store"),
            lambda b: (n_x, b.n_rows, 1),
            make,
        )

    def _attention_args(self, op: Attention, bucket: Bucket, kv: GpuKvCache) -> A.AttentionArgs:
        group = op.n_head // op.kv.n_kv
        group_share = 0 if group == 1 else ceil_div(2**32, group)
        return A.AttentionArgs(
            self._step, kv.place(op.kv), self._place(op.q), self._place(op.out),
            self._scratch["partial"], op.n_head, op.window or 0, op.is_block,
            _is_selected(op.q), bucket.n_splits, op.scale, group, group_share,
            _tiles_shift(group),
        )  # fmt: skip

    def _attention(
        self, op: Attention, rounded: Rounded | None, *, is_merged_later: bool
    ) -> list[Launch]:
        if op.kv.head_dim not in _HEADS:
            raise NativeError("attention", f"heads of {op.kv.head_dim}, expected one of {_HEADS}")
        later = [] if rounded is None else [self._round(Round(rounded, op.out))]
        if is_sparse(op):
            room, n_rows = self._scratch["partial"], self._most_rows[op.q.rows]
            make = partial(self._attention_args, op)
            copies = self._device.defaults.copies_ahead
            return [*sparse_launches(op, make, room, n_rows, copies_ahead=copies), *later]
        merge = self._merge(op, rounded, is_merged_later=is_merged_later)
        return [self._attend(op), merge, *(_unsplit(launch) for launch in later)]

    def _attend(self, op: Attention) -> Launch:
        group, dims, maker = op.n_head // op.kv.n_kv, op.kv.head_dim, self._makers.get(op)

        def n_tiles(bucket: Bucket) -> int:
            n_rows = bucket.rows(op.q.rows)
            # Rows of a tree have tiles of their own.
            in_rows = n_rows << _tiles_shift(group)
            n = in_rows if bucket.n_rows <= MOST_TREE_ROWS else ceil_div(n_rows * group, _QUERIES)
            # A tile's splits have blocks of their own, or a warp has all splits of a tile.
            return n if bucket.n_splits else ceil_div(n, _ATTENTION_WARPS)

        def is_prompt(bucket: Bucket) -> bool:
            return not bucket.n_splits and bucket.n_rows > MOST_TREE_ROWS

        def kernel(bucket: Bucket) -> str:
            if maker is not None and maker.attended(bucket) is not None:
                return ""
            if bucket.n_splits:
                return bucket.of_cache(f"attention_{dims}")
            name = "prefill" if is_prompt(bucket) else "attention_whole"
            return bucket.of_cache(f"{name}_{dims}")

        n_shared = prefill_bytes(dims, copies_ahead=self._device.defaults.copies_ahead)
        return Launch(
            kernel,
            lambda b: (b.n_splits or 1, op.kv.n_kv, n_tiles(b)),
            partial(self._attention_args, op),
            lambda _: 32 * _ATTENTION_WARPS,
            shared_bytes=lambda b: n_shared if is_prompt(b) else 0,
        )

    def _merge(self, op: Attention, rounded: Rounded | None, *, is_merged_later: bool) -> Launch:
        dims, rows, name = op.kv.head_dim, op.q.rows, _of_kind("attention_merge", rounded)
        n_warps = 8 if dims == 32 else 4  # attention.h: kMergeWarps
        to = (0, 0) if rounded is None else (self._place(rounded), self._scales(rounded))
        is_super = rounded is not None and rounded.kind is RoundingKind.SUPER

        def make(bucket: Bucket, kv: GpuKvCache) -> A.MergeArgs:
            return A.MergeArgs(self._attention_args(op, bucket, kv), *to, is_super, 0)

        def kernel(bucket: Bucket) -> str:
            is_later = is_merged_later and merges_later(op, bucket.rows(rows), bucket.n_splits)
            return f"{name}_{dims}" if bucket.n_splits and not is_later else ""

        return Launch(
            kernel,
            lambda b: (ceil_div(op.n_head, n_warps), b.rows(rows), 1),
            make,
            lambda _: 32 * n_warps,
        )

    # ---- choices ----

    def _argmax(self, x: Activation) -> list[Launch]:
        """What makes a single row notes the best of its parts, so that no chunks are looked at."""
        args = choose_args(self._step, self._place(x), self._scratch, x.width, 1)
        maker = self._alone.get(x)
        if maker is not None:
            maker.args.best = self._scratch["keys"]

        def n_noted(bucket: Bucket) -> int | None:
            return None if maker is None else maker.shape.n_best(bucket)

        def make(bucket: Bucket, _: GpuKvCache) -> A.ChooseArgs:
            made = A.ChooseArgs.from_buffer_copy(args)
            made.n_chunks = n_noted(bucket) or args.n_chunks
            return made

        def kernel_of_chunks(bucket: Bucket) -> str:
            return "" if n_noted(bucket) else "argmax_chunks"

        chunks = self._rowwise("argmax_chunks", x, args.n_chunks, args)
        return [
            replace(chunks, kernel=kernel_of_chunks),
            replace(self._rowwise("argmax", x, 1, args), make=make),
        ]

    def _top_k(self, x: Activation, k: int) -> list[Launch]:
        if k > most_top(x.width):
            detail = f"the best {k} of {x.width}, expected <= {most_top(x.width)}"
            raise NativeError("top_k", detail)
        args = choose_args(self._step, self._place(x), self._scratch, x.width, k)
        return [
            self._rowwise("top_k_chunks", x, args.n_chunks, args),
            self._rowwise("top_k", x, 1, args),
        ]


def _tiles_shift(group: int) -> int:
    """A power of two tiles have the heads of a group of one row, those of a tree's rows."""
    return (ceil_div(group, _QUERIES) - 1).bit_length()


def _unsplit(launch: Launch) -> Launch:
    """Of steps whose splits have no blocks of their own alone."""

    def kernel(bucket: Bucket) -> str:
        return "" if bucket.n_splits else launch.kernel(bucket)

    return replace(launch, kernel=kernel)


def _look_ahead(args: A.LinearArgs, following: A.LinearArgs) -> None:
    """Has the weights of one linear op asked for while the one before it is under way."""
    parts = following.parts[: following.n_parts]
    args.n_ahead = 2 * len(parts)
    for i, part in enumerate(parts):
        n_tile_blocks = ceil_div(part.n_out, TILE_ROWS) * following.n_blocks
        args.ahead[2 * i] = A.Ahead(part.quants, n_tile_blocks * block_bytes_of(part.format))
        args.ahead[2 * i + 1] = A.Ahead(part.scales, n_tile_blocks * TILE_ROWS * 4)


def _pairs_of(op: Linears, part: Part) -> int | None:
    """Which rows of a part's weights are paired in its tiles (DeviceWeights.matrix)."""
    if part.target is Target.GATED:
        return 2 * part.weights[0].n_out
    if op.turning is None or part.target not in (Target.QUERY, Target.KEY):
        return None
    return op.turning.kv.head_dim if op.turning.rope.is_neox else None


def _of_kind(kernel: str, out: Rounded | None) -> str:
    """What a kernel is called that rounds to int8 or not at all, or to halves."""
    is_half = out is not None and out.kind is RoundingKind.HALVES
    return f"{kernel}_half" if is_half else kernel


def _is_selected(x: Activation) -> bool:
    return x.rows is Rows.SELECTED


def rounded_rows(n_rows: int) -> int:
    """Whole tiles, as many as a launch of the widest linear kernel looks at."""
    n = TILE_ROWS * _MOST_LINEAR_TILES
    return ceil_div(n_rows, n) * n


def rounded_bytes(x: Rounded, n_rows: int) -> int:
    """The numbers, and two floats for each block of 32."""
    return rounded_rows(n_rows) * (x.width * x.number_bytes + x.width // 32 * 8)
