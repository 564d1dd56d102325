"""Runs a few ops on given rows, through the public Program, for tests of single ops."""

from collections.abc import Callable, Mapping

import gguf
import numpy as np
from gguf import GGMLQuantizationType as WeightType
from numpy.typing import NDArray

from engine.backends.backend import Backend
from engine.backends.cpu import CpuModel, KvCache, isa_name
from engine.config import KvCacheType
from engine.errors import NativeError
from engine.ops import Activation, Rows, Weight
from engine.program import Program

Floats = NDArray[np.float32]


def is_available(isa: str) -> bool:
    try:
        isa_name(isa)
    except NativeError:
        return False
    return True


ISAS = [isa for isa in ("portable", "avx2", "avx512", "neon") if is_available(isa)]
F32 = int(WeightType.F32)
MOST_ROWS = 128


class ProgramRunner:
    """A Program whose embedding table is the test's input x (T, E): its output is returned.

    `build` gets the program and x's activation, and returns the activation to look at.
    """

    def __init__(
        self,
        build: Callable[[Program, Activation], Activation],
        x: Floats,
        weights: Mapping[str, tuple[Weight, NDArray[np.uint8]]] | None = None,
        *,
        n_threads: int = 1,
        isa: str = "",
        top_k: int | None = None,
        kv_type: KvCacheType = "f16",
        backend: Backend | None = None,
    ) -> None:
        table = f32_weight("x", x)
        named = {"x": table, **(weights or {})}
        program = Program("test", {name: weight for name, (weight, _) in named.items()})
        result = build(program, program.embed(table[0]))
        is_selected = result.rows is Rows.SELECTED
        program.output(result if is_selected else program.select_rows(result), top_k)
        data = {name: data for name, (_, data) in named.items()}
        if backend is None:
            self.model = CpuModel(
                program, data, n_threads=n_threads, max_rows=MOST_ROWS, max_out_rows=MOST_ROWS,
                isa=isa,
            )  # fmt: skip
            self.kv = KvCache(program.kv_layers, 16, kv_type) if program.kv_layers else _no_kv()
        else:
            self.model = backend.model(program, data, max_rows=MOST_ROWS, max_out_rows=MOST_ROWS)
            self.kv = backend.kv_cache(program.kv_layers, 16, kv_type)
        self.n_rows = len(x)

    def run(
        self, rows: list[int] | None = None, parents: list[int] | None = None, n_past: int = 0
    ) -> Floats:
        """One step over some rows of x, by default all, as a chain unless `parents` is given."""
        rows = list(range(self.n_rows)) if rows is None else rows
        parents = list(range(-1, len(rows) - 1)) if parents is None else parents
        finished = self.model.step(
            self.kv,
            np.array(rows, np.int32),
            np.array(parents, np.int32),
            np.arange(16, dtype=np.int32),
            n_past,
            np.arange(len(rows), dtype=np.int32),
        )
        assert finished
        return self.model.logits(len(rows)).copy()


def f32_weight(name: str, values: Floats) -> tuple[Weight, NDArray[np.uint8]]:
    values = np.ascontiguousarray(np.atleast_2d(values), np.float32)
    return Weight(name, *values.shape, F32), values.reshape(-1).view(np.uint8)


def quantized_weight(
    name: str, values: Floats, quant: str
) -> tuple[Weight, NDArray[np.uint8], NDArray[np.float64]]:
    """The weight, its bytes, and the values those bytes stand for according to gguf."""
    kind = WeightType[quant]
    packed = np.ascontiguousarray(gguf.quantize(values, kind)).view(np.uint8)
    meant = gguf.dequantize(packed.reshape(len(values), -1), kind).astype(np.float64)
    return Weight(name, *values.shape, int(kind)), packed.reshape(-1), meant


def random_blocks(
    name: str, n_out: int, n_cols: int, quant: str, rng: np.random.Generator
) -> tuple[Weight, NDArray[np.uint8], NDArray[np.float64]]:
    """Random bits for types gguf cannot quantize, with tame scales."""
    kind = WeightType[quant]
    block_elements, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    n_blocks = n_out * n_cols // block_elements
    blocks = rng.integers(0, 256, (n_blocks, block_bytes), dtype=np.uint8)
    for offset in {"IQ4_NL": (0,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)}[quant]:
        scales = rng.uniform(-0.01, 0.01, n_blocks).astype(np.float16)
        blocks[:, offset : offset + 2] = scales.view(np.uint8).reshape(-1, 2)
    packed = blocks.reshape(n_out, -1)
    meant = gguf.dequantize(packed, kind).astype(np.float64)
    return Weight(name, n_out, n_cols, int(kind)), packed.reshape(-1), meant


class _NoKv:
    native = None


def _no_kv() -> KvCache:
    return _NoKv()  # type: ignore[return-value]
