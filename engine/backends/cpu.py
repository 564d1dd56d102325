"""The CPU backend: lowers a Program to a native Plan and runs its steps.

Activations are quantized once per input and weight family, however many linear ops read them; that
is the one thing lowering adds to the Program.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from engine import _native, memory
from engine.backends import backend
from engine.backends.arena import plan_arena
from engine.backends.attention_shares import attention_shares
from engine.backends.backend import KV_BLOCK_TOKENS, Bytes, Floats, Int32s
from engine.backends.likeliest import likeliest
from engine.config import KvCacheType
from engine.errors import NativeError
from engine.machine import cpu_name
from engine.ops import (
    Activation,
    Argmax,
    Attention,
    Concat,
    Embed,
    KvLayer,
    KvWrite,
    Linear,
    Op,
    RmsNorm,
    Rope,
    Rows,
    SelectRows,
    SiluMul,
    TopK,
    Weight,
)
from engine.program import Program
from engine.topology import read_topology

assert _native.KV_BLOCK_TOKENS == KV_BLOCK_TOKENS
_F32_BYTES = 4
_Q8_0_GROUP = 32  # numbers that share a scale


@dataclass(frozen=True, eq=False)
class Quantized(Activation):
    """An activation quantized in `format` for a family of weight types."""

    format: int = 0


@dataclass(frozen=True, eq=False)
class Quantize(Op):
    """out = x, rounded to eight bits per block."""

    out: Quantized
    x: Activation


def native_type(type_id: int) -> bool:
    """Whether weights of this GGUF type are used as they are."""
    try:
        _native.activation_format(type_id)
    except NativeError:
        return False
    return True


def isa_name(isa: str = "") -> str:
    """The instruction set whose kernels run when `isa` is asked for; "" asks for the best.

    Raises NativeError for one that is unknown or that this machine lacks.
    """
    return _native.isa_name(isa)


class KvCache:
    """The memory of a pool of KV blocks: 32 positions of every layer each.

    Address space is reserved at once; pages are committed when a block is first written.
    """

    def __init__(
        self, layers: Sequence[KvLayer], n_blocks: int, kv_type: KvCacheType = "f16"
    ) -> None:
        shapes = [(layer.n_kv, layer.head_dim) for layer in layers]
        self.native = _native.KvCache(shapes, kv_type == "q8_0", n_blocks)
        assert self.native.block_bytes == self.bytes_per_block(layers, kv_type)

    @staticmethod
    def bytes_per_block(layers: Sequence[KvLayer], kv_type: KvCacheType = "f16") -> int:
        def head_bytes(head_dim: int) -> int:  # of a key or a value
            n_scales = -(-head_dim // _Q8_0_GROUP)
            return 2 * head_dim if kv_type == "f16" else head_dim + 2 * n_scales

        n_bytes = sum(2 * layer.n_kv * head_bytes(layer.head_dim) for layer in layers)
        return n_bytes * KV_BLOCK_TOKENS

    def copy_block(self, source: int, target: int) -> None:
        self.native.copy_block(source, target)

    @property
    def block_bytes(self) -> int:
        return self.native.block_bytes

    def read_block(self, block: int) -> Bytes:
        return self.native.block_view(block)

    def write_block(self, block: int, content: Bytes) -> None:
        self.native.block_view(block)[:] = content

    def move_positions(self, moves: Sequence[tuple[int, int]]) -> None:
        for source, target in moves:
            self.native.move_position(source, target)


class CpuModel:
    """A Program ready to run.

    `weights` maps tensor names to their raw bytes, kept alive as long as this object. A step has
    at most `max_rows` rows and `max_out_rows` selected rows. `isa` "" takes the best one. With
    `is_exact`, activations stay f32: many times slower, for comparing with other engines. A model
    `beside` another steps on that one's threads, never at the same time.
    Raises NativeError when a size does not fit.
    """

    is_concurrent = False
    can_follow = False

    def __init__(
        self,
        program: Program,
        weights: Mapping[str, NDArray[np.uint8]],
        *,
        n_threads: int,
        max_rows: int,
        max_out_rows: int,
        isa: str = "",
        is_exact: bool = False,
        beside: "CpuModel | None" = None,
    ) -> None:
        self.program = program
        self.max_rows = max_rows
        self.max_out_rows = max_out_rows
        ops = program.ops if is_exact else _insert_quantize(program.ops)

        def size_of(tensor: Activation) -> int:
            n_rows = max_rows if tensor.rows is Rows.STEP else max_out_rows
            if isinstance(tensor, Quantized):
                return _native.quantized_bytes(tensor.format, n_rows, tensor.width)
            return n_rows * tensor.width * _F32_BYTES

        offsets, self.arena_bytes = plan_arena(ops, program.result, size_of)
        self._threads = beside._threads if beside else _native.ThreadPool(n_threads)
        self._plan = _native.Plan(self._threads, isa, max_rows, max_out_rows, self.arena_bytes)
        lowering = _Lowering(self._plan, weights, offsets)
        for op in ops:
            lowering.add(op)
        self._result = lowering.buffer(program.result)

    def step(
        self,
        kv: backend.KvCache,
        tokens: Int32s,
        parents: Int32s,
        blocks: Int32s,
        n_past: int,
        out_rows: Int32s,
    ) -> bool:
        native = cast(KvCache, kv).native
        positions = _positions(parents, n_past)
        return self._plan.step(native, tokens, positions, parents, blocks, n_past, out_rows)

    def follow(
        self, kv: backend.KvCache, tokens: Int32s, blocks: Int32s, n_past: int, out_rows: Int32s
    ) -> bool:
        raise NotImplementedError("nothing waits for the processor's steps")

    def prepare_some(self, kv: backend.KvCache) -> bool:
        return False

    def argmax(self, n_rows: int) -> list[int]:
        """The likeliest token of each selected row of the last step.

        Raises NativeError when logits are not finite: the model or a kernel is broken.
        """
        tokens = self._plan.argmax_result[:n_rows]
        if any(token < 0 for token in tokens):
            raise NativeError("argmax", "the logits are not finite numbers, expected a sound model")
        return tokens

    def top_k(self, n_rows: int) -> tuple[Int32s, Floats]:
        """Ids and log-probabilities (R, k) of the last step's selected rows, likeliest first.

        Raises NativeError when logits are not finite.
        """
        ids, log_probs = self._plan.top_k_result(n_rows)
        if (ids[:, 0] < 0).any():
            raise NativeError("top_k", "the logits are not finite numbers, expected a sound model")
        return ids, log_probs

    def likeliest(self, n_rows: int, k: int) -> tuple[Int32s, Floats]:
        return likeliest(self.logits(n_rows), k)

    def logits(self, n_rows: int, first: int = 0) -> Floats:
        """The selected rows' logits from `first` on: a view that the next step overwrites."""
        return self._plan.view(self._result, n_rows)[first:]

    def collected(self, n_rows: int) -> Floats:
        """What the Program collects (T, width): a view that the next step overwrites."""
        return self._plan.view(self._result, n_rows)

    def set_cancelled(self, is_cancelled: bool) -> None:
        """May be called from any thread; a running step ends within one op."""
        self._plan.set_cancelled(is_cancelled)


class CpuBackend:
    """This machine's processor. `n_threads` None means what the topology says is best for models
    of the size that `prepare` is told."""

    # Rows per prefill step: enough to pay for unpacking the weights, few enough to stay in the
    # caches. On an AMD EPYC with 1 MiB of L2 cache a core, sizes of 96 to 256 are within 1.5 % of
    # each model's best (benchmarks/prefill_rows.py); the smaller, the sooner a cancelled request
    # ends.
    prefill_rows = 128
    tree_budget: int | None = None  # steps are measured when a model is loaded

    def __init__(self, n_threads: int | None = None, *, is_exact: bool = False) -> None:
        self.name = f"cpu ({isa_name()})"
        self._is_exact = is_exact
        self._topology = read_topology()
        most = self._topology.most_threads
        self.n_threads = most if n_threads is None else min(n_threads, most)
        self._is_chosen = n_threads is not None
        self._first: CpuModel | None = None  # the others step on its threads

    def identity(self) -> str:
        return f"{cpu_name()} {self.name} {self.n_threads} {self._is_exact}"

    def prepare(self, model_bytes: int, n_ctx: int) -> None:
        if not self._is_chosen:
            self.n_threads = self._topology.default_threads(model_bytes)

    def weight_bytes(self, programs: Sequence[Program]) -> int | None:
        return None

    def scratch_bytes(self, programs: Sequence[Program], n_ctx: int) -> int:
        return 0

    def is_native(self, type_id: int) -> bool:
        return native_type(type_id)

    def block_bytes(self, layers: Sequence[KvLayer], kv_type: KvCacheType) -> int:
        return KvCache.bytes_per_block(layers, kv_type)

    def free_bytes(self) -> int | None:
        return memory.available_bytes()

    def kv_cache(
        self, layers: Sequence[KvLayer], n_blocks: int, kv_type: KvCacheType = "f16"
    ) -> KvCache:
        return KvCache(layers, n_blocks, kv_type)

    def model(
        self,
        program: Program,
        weights: Mapping[str, Bytes],
        *,
        max_rows: int,
        max_out_rows: int,
        below: backend.Model | None = None,
    ) -> CpuModel:
        model = CpuModel(
            program,
            weights,
            n_threads=self.n_threads,
            max_rows=max_rows,
            max_out_rows=max_out_rows,
            is_exact=self._is_exact,
            beside=self._first,
        )
        self._first = self._first or model
        return model

    def attention_shares(
        self, queries: Floats, keys: Sequence[backend.Halves], layer: int, scale: float
    ) -> Floats:
        return attention_shares(queries, keys, layer, scale)


def _insert_quantize(ops: list[Op]) -> list[Op]:
    lowered: list[Op] = []
    quantized: dict[tuple[Activation, int], Quantized] = {}
    for op in ops:
        if isinstance(op, Rope):  # changes x in place: an earlier quantized copy is stale
            quantized = {key: q for key, q in quantized.items() if key[0] is not op.x}
        if isinstance(op, Linear):
            form = _native.activation_format(op.weight.type_id)
            if form in (_native.FORMAT_Q8, _native.FORMAT_Q8K):
                x = quantized.get((op.x, form))
                if x is None:
                    x = Quantized(op.x.width, op.x.rows, form)
                    quantized[op.x, form] = x
                    lowered.append(Quantize(x, op.x))
                op = replace(op, x=x)
        lowered.append(op)
    return lowered


class _Lowering:
    """Adds ops to a native plan, creating its buffers on first use."""

    def __init__(
        self,
        plan: _native.Plan,
        weights: Mapping[str, NDArray[np.uint8]],
        offsets: Mapping[Activation, int],
    ) -> None:
        self._plan = plan
        self._weights = weights
        self._offsets = offsets
        self._buffers: dict[object, int] = {}

    def buffer(self, tensor: Activation) -> int:
        if tensor not in self._buffers:
            offset, is_out = self._offsets[tensor], tensor.rows is Rows.SELECTED
            self._buffers[tensor] = (
                self._plan.add_quantized(offset, tensor.width, tensor.format, is_out)
                if isinstance(tensor, Quantized)
                else self._plan.add_activation(offset, tensor.width, is_out)
            )
        return self._buffers[tensor]

    def weight(self, weight: Weight | None) -> int:
        if weight is None:
            return -1
        if weight not in self._buffers:
            self._buffers[weight] = self._plan.add_weight(
                self._weights[weight.name], weight.type_id, weight.n_out, weight.n_cols
            )
        return self._buffers[weight]

    def kv_layer(self, kv: KvLayer) -> int:
        if kv not in self._buffers:
            self._buffers[kv] = self._plan.add_kv_layer(kv.layer, kv.n_kv, kv.head_dim)
        return self._buffers[kv]

    def add(self, op: Op) -> None:
        plan, buffer, weight = self._plan, self.buffer, self.weight
        match op:
            case Embed():
                plan.embed(buffer(op.out), weight(op.table))
            case RmsNorm():
                plan.rms_norm(buffer(op.out), buffer(op.x), weight(op.weight), op.eps)
            case Quantize():
                plan.quantize(buffer(op.out), buffer(op.x))
            case Linear():
                residual = -1 if op.residual is None else buffer(op.residual)
                plan.linear(
                    buffer(op.out), buffer(op.x), weight(op.weight), weight(op.bias), residual
                )
            case Rope():
                frequencies = list(op.inverse_frequencies)
                plan.rope(buffer(op.x), frequencies, op.head_dim, op.is_neox)
            case KvWrite():
                plan.kv_write(self.kv_layer(op.kv), buffer(op.k), buffer(op.v))
            case Attention():
                out, q, kv = buffer(op.out), buffer(op.q), self.kv_layer(op.kv)
                common = (out, q, kv, op.n_head, op.scale, op.window or 0, op.is_block)
                if (s := op.sparse) is None:
                    plan.attention(*common)
                else:
                    plan.attention(*common, s.block, s.n_sink, s.n_window, s.alpha)
            case SiluMul():
                plan.silu_mul(buffer(op.out), buffer(op.gate), buffer(op.up))
            case SelectRows():
                plan.select_rows(buffer(op.out), buffer(op.x))
            case Concat():
                plan.concat(buffer(op.out), [buffer(part) for part in op.parts])
            case TopK():
                plan.top_k(buffer(op.x), op.k)
            case Argmax():
                plan.argmax(buffer(op.x))
            case _:
                raise NativeError("lowering", f"no CPU op for {type(op).__name__}")


def _positions(parents: Int32s, n_past: int) -> Int32s:
    """Of rows that are a tree below `n_past` tokens."""
    positions: list[int] = []
    above: list[int] = parents.tolist()
    for parent in above:
        positions.append(n_past if parent < 0 else positions[parent] + 1)
    return np.array(positions, np.int32)
