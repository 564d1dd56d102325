"""What the kernel workbench times: one operation of one shape, as a Program of many copies of it.

Every copy has a weight (or KV layer) of its own, together beyond the last-level cache, as in a
real step; so a case of one row measures memory and not the cache. Weights are random bits.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import ceil

import gguf
import numpy as np
from gguf import GGMLQuantizationType as WeightType
from numpy.typing import NDArray

from engine.backends.backend import KV_BLOCK_TOKENS
from engine.backends.cpu import CpuModel, KvCache
from engine.ops import Activation, Weight
from engine.program import Program

MOST_ROWS = 128
MOST_MACS = 4e9  # of all copies together: enough to time, and a whole run stays within minutes
ELEMENTWISE_COPIES = 64

ROWS = (1, 2, 4, 8, 16, 32, 128)
# (n_cols, n_out) of smollm2-135m, qwen2.5-coder-0.5b and qwen2.5-coder-1.5b, by weight type.
LINEARS: dict[str, tuple[tuple[int, int], ...]] = {
    "Q4_1": ((576, 192), (576, 576), (576, 1536), (1536, 576)),
    "Q5_0": ((896, 128), (896, 896), (896, 4864)),
    "Q8_0": ((576, 49152), (896, 151936)),
    "Q4_K": ((4864, 896), (1536, 256), (1536, 1536), (1536, 8960), (8960, 1536)),
    "Q6_K": ((4864, 896), (8960, 1536), (1536, 151936)),
    # Types that only other files have, at one of the same shapes.
    "Q4_0": ((896, 4864),),
    "IQ4_NL": ((896, 4864),),
    "Q5_1": ((896, 4864),),
    "Q5_K": ((1536, 8960),),
    "F16": ((896, 4864),),
    "BF16": ((896, 4864),),
    "F32": ((896, 4864),),
}
HEADS = ((9, 3, 64), (14, 2, 64), (12, 2, 128))  # query heads, key/value heads, head size
ATTENTION_ROWS = (1, 8, 128)
CONTEXTS = (1024, 4096)
ELEMENTWISE_ROWS = (1, 32)

# Where a quant block holds f16 scales: random bits there could be NaN or denormal.
_SCALE_OFFSETS: dict[str, tuple[int, ...]] = {
    "Q4_0": (0,), "Q4_1": (0, 2), "Q5_0": (0,), "Q5_1": (0, 2), "Q8_0": (0,),
    "IQ4_NL": (0,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,),
}  # fmt: skip

Bytes = NDArray[np.uint8]
Inputs = dict[str, Activation]
Add = Callable[[Program, Inputs, Weight | None], object]


@dataclass(frozen=True)
class Shape:
    """A weight (n_out, n_cols) of a type."""

    quant: str
    n_cols: int
    n_out: int

    @property
    def n_bytes(self) -> int:
        block_elements, block_bytes = gguf.GGML_QUANT_SIZES[WeightType[self.quant]]
        return self.n_cols * self.n_out // block_elements * block_bytes


@dataclass(frozen=True)
class Case:
    """One operation: `n_bytes` and `n_macs` are what each copy at least reads and computes.

    `peak` names the arithmetic that bounds it, "int8" or "float"; None for operations whose data
    stays in caches, which have no roofline here. `inputs` are its inputs' widths by name; `add`
    puts one copy into a Program.
    """

    name: str
    peak: str | None
    n_rows: int
    n_bytes: float
    n_macs: float
    inputs: dict[str, int]
    add: Add
    weight: Shape | None = None
    n_past: int = 0

    def n_copies(self, least_bytes: float) -> int:
        """So many that they read `least_bytes`, unless computing them would take seconds."""
        if self.peak is None:
            return ELEMENTWISE_COPIES
        return ceil(max(min(least_bytes / self.n_bytes, MOST_MACS / self.n_macs), 1))


class CaseSteps:
    """A case's Program, ready to be timed."""

    def __init__(self, case: Case, n_threads: int, least_bytes: float, isa: str = "") -> None:
        self.n_copies = case.n_copies(least_bytes)
        rng = np.random.default_rng(0)
        named = {
            name: (
                Weight(name, MOST_ROWS, width, int(WeightType.F32)),
                rng.standard_normal(MOST_ROWS * width, np.float32).view(np.uint8),
            )
            for name, width in case.inputs.items()
        }
        copies: list[Weight | None] = [None] * self.n_copies
        if case.weight is not None:
            copies = []
            for name, blob in _weight_copies(case.weight, self.n_copies, rng):
                kind = int(WeightType[case.weight.quant])
                weight = Weight(name, case.weight.n_out, case.weight.n_cols, kind)
                named[name] = (weight, blob)
                copies.append(weight)
        program = Program("benchmark", {name: weight for name, (weight, _) in named.items()})
        inputs = {name: program.embed(named[name][0]) for name in case.inputs}
        for weight in copies:
            case.add(program, inputs, weight)
        # Nothing reads what is timed: the step's own result is one row of an input.
        program.output(program.select_rows(next(iter(inputs.values()))))
        self._model = CpuModel(
            program,
            {name: blob for name, (_, blob) in named.items()},
            n_threads=n_threads,
            max_rows=MOST_ROWS,
            max_out_rows=1,
            isa=isa,
        )
        self._case = case
        n_blocks = ceil((case.n_past + MOST_ROWS) / KV_BLOCK_TOKENS)
        self._blocks = np.arange(n_blocks, dtype=np.int32)
        self._kv = _kv_cache(program, n_blocks)
        if program.kv_layers:  # unwritten pages are all one page of zeros: no memory is read
            self._step(KV_BLOCK_TOKENS, 0)
            for block in range(1, n_blocks):
                self._kv.copy_block(0, block)

    def run(self) -> None:
        """One step: every copy once."""
        self._step(self._case.n_rows, self._case.n_past)

    def _step(self, n_rows: int, n_past: int) -> None:
        rows = np.arange(n_rows, dtype=np.int32)
        args = (rows, rows - np.int32(1), self._blocks, n_past, rows[-1:])
        assert self._model.step(self._kv, *args), "nobody cancels a benchmark"


def all_cases() -> Iterator[Case]:
    """Every case, in the order of the report."""
    for quant, shapes in LINEARS.items():
        for n_cols, n_out in shapes:
            for n_rows in ROWS:
                yield linear_case(Shape(quant, n_cols, n_out), n_rows)
    for heads in HEADS:
        for n_past in CONTEXTS:
            for n_rows in ATTENTION_ROWS:
                yield attention_case(*heads, n_rows, n_past)
    for n_rows in ELEMENTWISE_ROWS:
        yield from elementwise_cases(896, 4864, 64, n_rows)


def linear_case(weight: Shape, n_rows: int) -> Case:
    """y (T, n_out) = x (T, n_cols) W^T; x is quantized once for all copies, as for q, k and v."""
    is_float = weight.quant in ("F32", "F16", "BF16")
    return Case(
        f"linear {weight.quant} {weight.n_cols}x{weight.n_out} T={n_rows}",
        "float" if is_float else "int8",
        n_rows,
        weight.n_bytes,
        float(weight.n_cols) * weight.n_out * n_rows,
        {"x": weight.n_cols},
        lambda program, inputs, w: program.linear(inputs["x"], _present(w)),
        weight,
    )


def attention_case(n_head: int, n_kv: int, head_dim: int, n_rows: int, n_past: int) -> Case:
    """T rows after `n_past` positions, with the writing of their keys and values."""
    n_keys = n_rows * n_past + n_rows * (n_rows + 1) / 2  # of one head, by all rows together
    scale = head_dim**-0.5
    return Case(
        f"attention {n_head}/{n_kv}x{head_dim} T={n_rows} after {n_past}",
        "float",
        n_rows,
        2.0 * n_kv * head_dim * (n_past + n_rows) * 2,  # keys and values, f16
        2.0 * n_head * head_dim * n_keys,  # q k^T and p v
        {"q": n_head * head_dim, "k": n_kv * head_dim, "v": n_kv * head_dim},
        lambda program, inputs, _: _attend(program, inputs, n_head, n_kv, scale),
        n_past=n_past,
    )


def _attend(
    program: Program, inputs: Mapping[str, Activation], n_head: int, n_kv: int, scale: float
) -> Activation:
    kv = program.kv_layer(n_kv, inputs["k"].width // n_kv)
    program.kv_write(kv, inputs["k"], inputs["v"])
    return program.attention(inputs["q"], kv, n_head, scale)


def elementwise_cases(n_embd: int, n_ff: int, head_dim: int, n_rows: int) -> Iterator[Case]:
    """The small operations of a step; their bytes are activations read and written."""
    frequencies = tuple(10000.0 ** (-2 * i / head_dim) for i in range(head_dim // 2))
    yield _elementwise(
        f"rms_norm {n_embd} T={n_rows}",
        n_rows,
        8.0 * n_rows * n_embd,
        {"x": n_embd},
        lambda program, inputs, w: program.rms_norm(inputs["x"], _present(w), 1e-6),
        Shape("F32", n_embd, 1),
    )
    yield _elementwise(
        f"silu_mul {n_ff} T={n_rows}",
        n_rows,
        12.0 * n_rows * n_ff,
        {"gate": n_ff, "up": n_ff},
        lambda program, inputs, _: program.silu_mul(inputs["gate"], inputs["up"]),
    )
    yield _elementwise(
        f"rope {n_embd} T={n_rows}",
        n_rows,
        8.0 * n_rows * n_embd,
        {"x": n_embd},
        lambda program, inputs, _: program.rope(inputs["x"], frequencies, head_dim, True),
    )


def _elementwise(
    name: str,
    n_rows: int,
    n_bytes: float,
    inputs: dict[str, int],
    add: Add,
    weight: Shape | None = None,
) -> Case:
    return Case(name, None, n_rows, n_bytes, 0.0, inputs, add, weight)


def _weight_copies(
    shape: Shape, n_copies: int, rng: np.random.Generator
) -> Iterator[tuple[str, Bytes]]:
    one = _random_bytes(shape, rng)
    everything = np.tile(one, n_copies)
    for copy in range(n_copies):
        yield f"w{copy}", everything[copy * one.size : (copy + 1) * one.size]


def _random_bytes(shape: Shape, rng: np.random.Generator) -> Bytes:
    n_elements = shape.n_cols * shape.n_out
    if shape.quant == "F32":
        return rng.standard_normal(n_elements, np.float32).view(np.uint8)
    if shape.quant == "F16":
        return rng.standard_normal(n_elements, np.float32).astype(np.float16).view(np.uint8)
    if shape.quant == "BF16":
        values = rng.standard_normal(n_elements, np.float32)
        return (values.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)
    block_bytes = gguf.GGML_QUANT_SIZES[WeightType[shape.quant]][1]
    blocks = rng.integers(0, 256, (shape.n_bytes // block_bytes, block_bytes), np.uint8)
    scales = rng.uniform(0.005, 0.01, len(blocks)).astype(np.float16).view(np.uint8)
    for offset in _SCALE_OFFSETS[shape.quant]:
        blocks[:, offset : offset + 2] = scales.reshape(-1, 2)
    return blocks.reshape(-1)


def _kv_cache(program: Program, n_blocks: int) -> KvCache:
    return KvCache(program.kv_layers, n_blocks) if program.kv_layers else _no_kv()


def _present(weight: Weight | None) -> Weight:
    assert weight is not None, "the case has a weight"
    return weight


class _NoKv:
    native = None


def _no_kv() -> KvCache:
    return _NoKv()  # type: ignore[return-value]
