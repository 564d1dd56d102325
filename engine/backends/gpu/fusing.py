"""From a Program to what the GPU has kernels for: activations are rounded once per input, norms and
products are rounded as they are computed, and linear ops of one input share a launch.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

from engine.backends.arena import activations_of
from engine.backends.gpu.args import MOST_PARTS
from engine.backends.gpu.packing import RoundingKind, rounding_of
from engine.backends.gpu.sparse import is_sparse
from engine.errors import NativeError
from engine.ops import (
    Activation,
    Attention,
    KvLayer,
    KvWrite,
    Linear,
    Op,
    RmsNorm,
    Rope,
    SiluMul,
    Weight,
)

MOST_HEAD_DIMS = 256  # native/gpu/heads.h: kMostHeadDims


class Source(IntEnum):
    """What is rounded, as native/gpu/rounding.h counts it."""

    PLAIN = 0
    NORMED = 1
    SILU_MUL = 2


@dataclass(frozen=True, eq=False)
class Rounded(Activation):
    """An activation as int8 or halves, with scales."""

    kind: RoundingKind = RoundingKind.BLOCKS

    @property
    def number_bytes(self) -> int:
        return 2 if self.kind is RoundingKind.HALVES else 1


@dataclass(frozen=True, eq=False)
class Round(Op):
    """out = x rounded, or its norm with weight `other`, or silu(x) * other."""

    out: Rounded
    x: Activation
    source: Source = Source.PLAIN
    other: Activation | Weight | None = None
    eps: float = 0.0


class Target(IntEnum):
    """What becomes of a linear op's result, as native/gpu/linear.h counts it."""

    WRITTEN = 0
    QUERY = 1
    KEY = 2
    VALUE = 3
    GATED = 4


@dataclass(frozen=True, eq=False)
class Turning:
    """What a KvWrite and its Rope ask of the linear ops whose results alone they take."""

    kv: KvLayer
    rope: Rope


@dataclass(frozen=True, eq=False)
class Gated(Op):
    """out = silu(x gate^T) * (x up^T): two linear ops of one shape whose product alone is read."""

    out: Activation
    x: Activation
    gate: Weight
    up: Weight


@dataclass(frozen=True, eq=False)
class Part:
    """One linear op of several; of a gate and an up there are two weights."""

    out: Activation
    weights: tuple[Weight, ...]
    target: Target = Target.WRITTEN
    bias: Weight | None = None
    residual: Activation | None = None


@dataclass(frozen=True, eq=False)
class Linears(Op):
    """Linear ops of one rounded x, none of which needs another.

    `rounding` is how x was rounded, where nobody else reads it: the op may do it itself, from
    `inputs`. So is `merged`, of attention in parts. Parts that are queries, keys and values are
    turned and stored as `turning` says; `outs` are of all, for a cache in q8_0 has keys and values
    written, too. `attended` is the attention that reads them, where the parts are a query, a key
    and a value and nothing else: the op may do its splits, too.
    """

    x: Rounded
    parts: tuple[Part, ...]
    outs: tuple[Activation, ...]
    residuals: tuple[Activation, ...]
    turning: Turning | None = None
    rounding: Round | None = None
    merged: Attention | None = None
    attended: Attention | None = None
    inputs: tuple[Activation, ...] = ()


@dataclass(frozen=True, eq=False)
class RopeWrite(Op):
    """KvWrite of k, turned by `rope` if it is, and v; q, if there is one, is turned in place."""

    write: KvWrite
    k: Activation
    v: Activation
    q: Activation | None
    rope: Rope | None


@dataclass(frozen=True, eq=False)
class HeadsWrite(Op):
    """A RopeWrite whose keys, and queries if there are any, are normalized before, each head for
    itself; `inputs` are what they come from."""

    turned: RopeWrite
    k: Activation
    v: Activation
    q: Activation | None
    k_norm: RmsNorm
    q_norm: RmsNorm | None
    inputs: tuple[Activation, ...]


@dataclass(frozen=True, eq=False)
class KvStore(Op):
    """What a KV cache in q8_0 asks for and one in f16 does not: k and v, written and turned as
    floats, are rounded into it, and q, which attention alone reads from then on, is rotated in
    place as keys are there (native/gpu/store.h). There are keys and values, or a query, or all."""

    kv: KvLayer
    k: Activation | None
    v: Activation | None
    q: Activation | None


@dataclass(frozen=True, eq=False)
class AttentionRound(Op):
    """Attention whose result is read rounded only: `rounded` is all that must be written, `out` is
    where it passes through where it cannot be rounded at once. With `is_merged_later` the only op
    that reads it can merge the splits itself."""

    attention: Attention
    out: Activation
    q: Activation
    rounded: Rounded
    is_merged_later: bool = False


def fuse(ops: Sequence[Op], result: Activation) -> list[Op]:
    """The same numbers from fewer launches. Raises NativeError for a Rope that no KvWrite or
    Attention follows."""
    rounded = _round(_gate(ops, result), result)
    turned = _norm_heads(_turn(rounded), result)
    merged = _merge(_round_attention(turned, result))
    return _let_linears_attend(_let_linears_round(_store(_let_linears_turn(merged), result)))


def _n_uses(ops: Sequence[Op]) -> Counter[Activation]:
    """How many ops write or read each activation."""
    return Counter(tensor for op in ops for tensor in set(activations_of(op)))


def _gate(ops: Sequence[Op], result: Activation) -> list[Op]:
    """Has what makes a gate and an up make their product, where both are alike and nobody else
    reads them."""
    n_uses, makers = _n_uses(ops), {op.out: op for op in ops if isinstance(op, Linear)}
    replaced: dict[Op, Op | None] = {}
    for op in ops:
        if not isinstance(op, SiluMul) or op.gate is op.up:
            continue
        gate, up = makers.get(op.gate), makers.get(op.up)
        if gate is None or up is None or not _is_gate(gate, up):
            continue
        if all(n_uses[tensor] == 2 and tensor is not result for tensor in (op.gate, op.up)):
            replaced |= {gate: None, up: None, op: Gated(op.out, gate.x, gate.weight, up.weight)}
    found = (replaced.get(op, op) for op in ops)
    return [op for op in found if op is not None]


def _is_gate(gate: Linear, up: Linear) -> bool:
    a, b = gate.weight, up.weight
    is_alike = (a.n_out, a.n_cols, a.type_id) == (b.n_out, b.n_cols, b.type_id)
    is_bare = all(extra is None for op in (gate, up) for extra in (op.bias, op.residual))
    return gate.x is up.x and is_alike and is_bare and a.n_out % 8 == 0


def _round_attention(ops: Sequence[Op], result: Activation) -> list[Op]:
    n_uses, fused = _n_uses(ops), list[Op]()
    for op in ops:
        last = fused[-1] if fused else None
        if (
            isinstance(op, Round)
            and isinstance(last, Attention)
            and op.x is last.out
            and last.out is not result
            and op.source is Source.PLAIN
            and last.kv.head_dim % 32 == 0
            and n_uses[last.out] == 2
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


def _norm_heads(ops: Sequence[Op], result: Activation) -> list[Op]:
    """Has what turns and stores heads normalize them, where nobody else sees them as they were."""
    n_uses = _n_uses(ops)
    makers = {op.out: op for op in ops if isinstance(op, RmsNorm) and op.out is not result}

    def norm_of(x: Activation, n_readers: int, dims: int) -> RmsNorm | None:
        norm = makers.get(x)
        is_alone = norm is not None and n_uses[x] == 1 + n_readers and n_uses[norm.x] == 2
        return norm if norm is not None and is_alone and norm.weight.n_cols == dims else None

    done: dict[Op, Op | None] = {}
    for op in ops:
        if not isinstance(op, RopeWrite) or op.rope is None:
            continue
        dims = op.write.kv.head_dim
        k_norm = norm_of(op.k, 1, dims)
        q_norm = None if op.q is None else norm_of(op.q, 2, dims)  # attention reads it, too
        if k_norm is None or dims > MOST_HEAD_DIMS or (q_norm is None) != (op.q is None):
            continue
        norms = [k_norm] if q_norm is None else [k_norm, q_norm]
        if any(norm.eps != k_norm.eps for norm in norms):
            continue
        inputs = tuple(norm.x for norm in norms)
        done |= dict.fromkeys(norms)
        done[op] = HeadsWrite(op, op.k, op.v, op.q, k_norm, q_norm, inputs)
    found = (done.get(op, op) for op in ops)
    return [op for op in found if op is not None]


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
            if tensor is not out and not (isinstance(op, Linear | Gated) and tensor is op.x):
                read_otherwise.add(tensor)
    lowered: list[Op] = []
    rounded: dict[tuple[Activation, RoundingKind], Rounded] = {}
    for op in ops:
        if isinstance(op, Rope):  # changes x in place: what was rounded before is stale
            rounded = {key: r for key, r in rounded.items() if key[0] is not op.x}
        if isinstance(op, RmsNorm | SiluMul) and _is_fused(op, read_otherwise):
            continue
        if isinstance(op, Linear | Gated):
            weight = op.gate if isinstance(op, Gated) else op.weight
            key = (op.x, rounding_of(weight.type_id))
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
    """Linear ops of one input become one, the first; what adds a residual must follow at once, for
    only then is it known to be there."""
    merged: list[Op] = []
    for op in ops:
        if not isinstance(op, Linear | Gated):
            merged.append(op)
            continue
        assert isinstance(op.x, Rounded)
        part = _part(op)
        of_x = [
            at for at, last in enumerate(merged) if isinstance(last, Linears) and last.x is op.x
        ]
        at = of_x[-1] if of_x else -1
        last = merged[at] if of_x else None
        if (
            isinstance(last, Linears)
            and (
                part.residual is None or (at == len(merged) - 1 and part.residual not in last.outs)
            )
            and len(last.parts) < MOST_PARTS
        ):
            merged[at] = _linears(op.x, (*last.parts, part))
        else:
            merged.append(_linears(op.x, (part,)))
    return merged


def _linears(x: Rounded, parts: tuple[Part, ...]) -> Linears:
    outs = tuple(part.out for part in parts)
    residuals = tuple(part.residual for part in parts if part.residual is not None)
    return Linears(x, parts, outs, residuals)


def _part(op: Linear | Gated) -> Part:
    if isinstance(op, Gated):
        return Part(op.out, (op.gate, op.up), Target.GATED)
    return Part(op.out, (op.weight,), bias=op.bias, residual=op.residual)


def _let_linears_turn(ops: Sequence[Op]) -> list[Op]:
    """Has the linear ops that make queries, keys and values turn and store them, where nobody else
    sees them as they were."""
    n_uses = _n_uses(ops)
    makers = {out: op for op in ops if isinstance(op, Linears) for out in op.outs}
    changed: dict[Linears, Linears] = {}
    done: dict[Op, Op] = {}
    for op in ops:
        if not isinstance(op, RopeWrite) or not _is_turnable(op):
            continue
        kinds = {op.k: Target.KEY, op.v: Target.VALUE}
        if op.q is not None:
            kinds[op.q] = Target.QUERY
        # A query has another reader: the attention that it is turned for.
        if any(
            tensor not in makers or n_uses[tensor] != 2 + (kind is Target.QUERY)
            for tensor, kind in kinds.items()
        ):
            continue
        assert op.rope is not None
        turning = Turning(op.write.kv, op.rope)
        of_op = {makers[tensor] for tensor in kinds}
        if not of_op & changed.keys():  # an op turns for one layer
            changed |= {maker: _turned(maker, kinds, turning) for maker in of_op}
            done[op] = _store_of(op)
    return [changed.get(op, op) if isinstance(op, Linears) else done.get(op, op) for op in ops]


def _is_turnable(op: RopeWrite) -> bool:
    dims = op.write.kv.head_dim
    is_power = dims >= 16 and dims & (dims - 1) == 0
    return op.rope is not None and 2 * len(op.rope.inverse_frequencies) == dims and is_power


def _turned(op: Linears, kinds: Mapping[Activation, Target], turning: Turning) -> Linears:
    parts = tuple(replace(part, target=kinds.get(part.out, part.target)) for part in op.parts)
    return replace(op, parts=parts, turning=turning)


def _store_of(op: RopeWrite) -> KvStore:
    return KvStore(op.write.kv, op.k, op.v, op.q)


def _store(ops: Sequence[Op], result: Activation) -> list[Op]:
    """Puts a KvStore behind every RopeWrite that is left, and one before attention whose queries no
    other had. Raises NativeError where queries are read after that."""
    found: list[Op] = []
    rotated: set[Activation] = set()
    for op in ops:
        attention = op.attention if isinstance(op, AttentionRound) else op
        if isinstance(attention, Attention):
            if attention.q not in rotated:
                found.append(KvStore(attention.kv, None, None, attention.q))
            rotated.add(attention.q)
        elif not rotated.isdisjoint(activations_of(op)):
            raise NativeError("lowering", "queries that are read after their attention")
        found.append(op)
        turned = op.turned if isinstance(op, HeadsWrite) else op
        store = _store_of(turned) if isinstance(turned, RopeWrite) else op
        if isinstance(store, KvStore):
            found += [] if store is op else [store]
            rotated |= set() if store.q is None else {store.q}
    if result in rotated:
        raise NativeError("lowering", "queries that are the result")
    return found


def _let_linears_round(ops: Sequence[Op]) -> list[Op]:
    """Has linear ops know what their input was before it was rounded to int8, where they are the
    only reader; the Round is part of them from then on."""
    n_uses = _n_uses(ops)
    makers = {op.out: op for op in ops if isinstance(op, Round)}
    attentions = {op.rounded: op for op in ops if isinstance(op, AttentionRound)}
    found: list[Op] = []
    for op in ops:
        if not isinstance(op, Linears) or n_uses[op.x] != 2 or op.x.kind is RoundingKind.HALVES:
            found.append(op)
        elif op.x in attentions:
            attention = attentions[op.x]
            at = found.index(attention)
            found[at] = replace(attention, is_merged_later=True)
            found.append(replace(op, merged=attention.attention))
        elif found and found[-1] is makers.get(op.x):
            rounding = makers[op.x]
            inputs = tuple(tensor for tensor in activations_of(rounding) if tensor is not op.x)
            found[-1] = replace(op, rounding=rounding, inputs=inputs)
        else:
            found.append(op)
    return found


def _let_linears_attend(ops: Sequence[Op]) -> list[Op]:
    """Has what makes a query, a key and a value, and nothing else, know the attention that reads
    them, where rows see those before them; its parts are in that order then."""
    found = [op.attention if isinstance(op, AttentionRound) else op for op in ops]
    attentions = [op for op in found if isinstance(op, Attention)]
    of_query = {op.q: op for op in attentions if not op.is_block and not is_sparse(op)}

    def attending(op: Op) -> Op:
        if not isinstance(op, Linears) or op.turning is None:
            return op
        parts = sorted(op.parts, key=lambda part: part.target)
        attention = of_query.get(parts[0].out)
        is_whole = [part.target for part in parts] == [Target.QUERY, Target.KEY, Target.VALUE]
        if attention is None or attention.kv != op.turning.kv or not is_whole:
            return op
        return replace(op, parts=tuple(parts), attended=attention)

    return [attending(op) for op in ops]
