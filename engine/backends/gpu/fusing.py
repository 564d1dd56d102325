"""From a Program to what the GPU has kernels for: activations are rounded once per input, norms and
products are rounded as they are computed, and linear ops of one input share a launch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

from engine.backends.arena import activations_of
from engine.backends.gpu.args import MOST_PARTS
from engine.backends.gpu.packing import is_super
from engine.errors import NativeError
from engine.ops import (
    Activation,
    Attention,
    KvWrite,
    Linear,
    Op,
    RmsNorm,
    Rope,
    SiluMul,
    Weight,
)


class Source(IntEnum):
    """What is rounded, as native/gpu/rows.h counts it."""

    PLAIN = 0
    NORMED = 1
    SILU_MUL = 2


@dataclass(frozen=True, eq=False)
class Rounded(Activation):
    """An activation as int8 with scales, by blocks of 32 or, with `is_super`, of 256."""

    is_super: bool = False


@dataclass(frozen=True, eq=False)
class Round(Op):
    """out = x rounded, or its norm with weight `other`, or silu(x) * other."""

    out: Rounded
    x: Activation
    source: Source = Source.PLAIN
    other: Activation | Weight | None = None
    eps: float = 0.0


@dataclass(frozen=True, eq=False)
class Linears(Op):
    """Linear ops of one rounded x, none of which needs another; `outs`, `residuals` by part."""

    x: Rounded
    parts: tuple[Linear, ...]
    outs: tuple[Activation, ...]
    residuals: tuple[Activation, ...]


@dataclass(frozen=True, eq=False)
class RopeWrite(Op):
    """KvWrite of k, turned by `rope` if it is, and v; q, if there is one, is turned in place."""

    write: KvWrite
    k: Activation
    v: Activation
    q: Activation | None
    rope: Rope | None


@dataclass(frozen=True, eq=False)
class AttentionRound(Op):
    """Attention whose result is read rounded only: `rounded` is all that must be written, `out` is
    where it passes through where it cannot be rounded at once."""

    attention: Attention
    out: Activation
    q: Activation
    rounded: Rounded


def fuse(ops: Sequence[Op], result: Activation) -> list[Op]:
    """The same numbers from fewer launches. Raises NativeError for a Rope that no KvWrite or
    Attention follows."""
    return _merge(_round_attention(_turn(_round(ops, result)), result))


def _round_attention(ops: Sequence[Op], result: Activation) -> list[Op]:
    fused: list[Op] = []
    for op in ops:
        last = fused[-1] if fused else None
        if (
            isinstance(op, Round)
            and isinstance(last, Attention)
            and op.x is last.out
            and last.out is not result
            and op.source is Source.PLAIN
            and last.kv.head_dim % 32 == 0
            and sum(last.out in activations_of(other) for other in ops) == 2
        ):
            fused[-1] = AttentionRound(last, last.out, last.q, op.out)
        else:
            fused.append(op)
    return fused


def _turn(ops: Sequence[Op]) -> list[Op]:
    """Every KvWrite does the turning of its keys, and of the queries that were turned with them."""
    turned: list[Op] = []
    ropes: list[Rope] = []
    for op in ops:
        if isinstance(op, Rope):
            ropes.append(op)
            continue
        if isinstance(op, KvWrite):
            of_keys = next((rope for rope in ropes if rope.x is op.k), None)
            others = [rope for rope in ropes if rope is not of_keys]
            if len(others) > 1 or any(not _is_alike(rope, of_keys) for rope in others):
                raise NativeError("lowering", "ropes of other heads before a KvWrite")
            q = others[0].x if others else None
            turned.append(RopeWrite(op, op.k, op.v, q, of_keys))
            ropes = []
        else:
            turned.append(op)
    if ropes:
        raise NativeError("lowering", "a Rope whose keys are never written")
    return turned


def _is_alike(a: Rope, b: Rope | None) -> bool:
    return b is not None and (a.inverse_frequencies, a.head_dim, a.is_neox) == (
        b.inverse_frequencies,
        b.head_dim,
        b.is_neox,
    )


def _round(ops: Sequence[Op], result: Activation) -> list[Op]:
    """Puts a Round before the first Linear of each input; leaves out what only it would read."""
    makers = {op.out: op for op in ops if isinstance(op, RmsNorm | SiluMul)}
    read_otherwise = {result}
    for op in ops:
        out = getattr(op, "out", None)
        for tensor in activations_of(op):
            if tensor is not out and not (isinstance(op, Linear) and tensor is op.x):
                read_otherwise.add(tensor)
    lowered: list[Op] = []
    rounded: dict[tuple[Activation, bool], Rounded] = {}
    for op in ops:
        if isinstance(op, Rope):  # changes x in place: what was rounded before is stale
            rounded = {key: r for key, r in rounded.items() if key[0] is not op.x}
        if isinstance(op, RmsNorm | SiluMul) and _is_fused(op, read_otherwise):
            continue
        if isinstance(op, Linear):
            key = (op.x, is_super(op.weight.type_id))
            if key not in rounded:
                rounded[key] = Rounded(op.x.width, op.x.rows, key[1])
                lowered.append(_rounding(rounded[key], op.x, makers.get(op.x), read_otherwise))
            op = replace(op, x=rounded[key])
        lowered.append(op)
    return lowered


def _is_fused(op: RmsNorm | SiluMul, read_otherwise: set[Activation]) -> bool:
    is_whole = isinstance(op, SiluMul) or op.weight.n_cols == op.x.width
    return is_whole and op.out not in read_otherwise


def _rounding(
    out: Rounded, x: Activation, maker: RmsNorm | SiluMul | None, read_otherwise: set[Activation]
) -> Round:
    if maker is None or not _is_fused(maker, read_otherwise):
        return Round(out, x)
    if isinstance(maker, RmsNorm):
        return Round(out, maker.x, Source.NORMED, maker.weight, maker.eps)
    return Round(out, maker.gate, Source.SILU_MUL, maker.up)


def _merge(ops: Sequence[Op]) -> list[Op]:
    merged: list[Op] = []
    for op in ops:
        if not isinstance(op, Linear):
            merged.append(op)
            continue
        assert isinstance(op.x, Rounded)
        last = merged[-1] if merged else None
        parts = (op,)
        if (
            isinstance(last, Linears)
            and last.x is op.x
            and op.residual not in last.outs
            and len(last.parts) < MOST_PARTS
        ):
            parts = (*last.parts, op)
            merged.pop()
        outs = tuple(part.out for part in parts)
        residuals = tuple(part.residual for part in parts if part.residual is not None)
        merged.append(Linears(op.x, parts, outs, residuals))
    return merged
