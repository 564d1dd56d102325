"""Counts of work are those of the real launches; times follow from rates."""

import re
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type

from benchmarks import gpu
from benchmarks.roofline import Rates, Work, count, prefill_s
from engine.backends.gpu.emulated import EmulatedDriver
from engine.backends.gpu.packing import Format, pack, packed_bytes
from engine.config import EngineConfig
from engine.engine import Engine
from engine.ops import Weight
from engine.program import Program
from tests.tiny_gguf import write_tiny_gguf

BLOCK_BYTES = {Type.Q4_0: 18, Type.Q5_1: 24, Type.Q8_0: 34, Type.F16: 64, Type.F32: 128}
SUPER_BYTES = {Type.Q4_K: 144, Type.Q5_K: 176, Type.Q6_K: 210}
RATES = Rates(
    launch_us=2.0,
    bytes_per_s=1e6,
    cache_bytes=1000,
    cycles_per_s=1e3,
    cycles={("64", Format.INT4): 2.5, ("16", Format.INT8): 10.0},
    attention_flops_per_s=1e6,
)


@pytest.mark.parametrize("kind", [*BLOCK_BYTES, *SUPER_BYTES])
@pytest.mark.parametrize("n_out", [16, 27])
def test_packed_sizes_are_what_packing_makes(kind: Type, n_out: int) -> None:
    n_blocks, n_bytes = (16, BLOCK_BYTES[kind]) if kind in BLOCK_BYTES else (2, SUPER_BYTES[kind])
    data = np.zeros(n_out * n_blocks * n_bytes, np.uint8)
    assert packed_bytes(int(kind), n_out, 512) == pack(int(kind), data, n_out, 512).n_bytes


@pytest.mark.parametrize(("n_rows", "n_out"), [(1, 1), (16, 16), (40, 40), (100, 1)])
def test_work_is_what_is_launched(engine: Engine, n_rows: int, n_out: int) -> None:
    assert_work_is_launched(engine, n_rows, n_out)


def assert_work_is_launched(engine: Engine, n_rows: int, n_out: int) -> None:
    launched = gpu.launches(engine, n_rows, 8, n_out, n_repeated=1)
    counted = count(engine._model.program, n_rows, 8, n_out, n_units=EmulatedDriver.n_units)
    assert sum(row["n"] for row in launched) == sum(work.n_launches for work in counted)
    linears = [row for row in launched if row["weight_bytes"]]
    many = {row["kernel"] for row in linears if row["kernel"].endswith("many")}
    n_passes = {row["kernel"]: 1 if row["kernel"] in many else row["grid"][1] for row in linears}
    streamed = sum(row["n"] * row["weight_bytes"] * n_passes[row["kernel"]] for row in linears)
    assert streamed == sum(work.weight_bytes * work.n_passes for work in counted)
    names = {re.sub("linear_(tall_)?", "", kernel) for kernel in many}
    assert names == {work.kernel for work in counted if work.kernel.endswith("many")}


def test_work_with_halves_is_what_is_launched(host_compiler: None, tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf", "qwen2", "F16", quants={"attn_q.weight": "Q8_0"})
    config = EngineConfig(model=str(path), backend="emulated", n_ctx=256, n_threads=1)
    engine = Engine.load(config)
    for n_rows in (1, 100):
        assert_work_is_launched(engine, n_rows, 1)


def _program() -> Program:
    """Embed, a linear op of 64 by 64 and attention of 2 heads of 32 over one."""
    shapes = {"e": (96, 64), "q": (64, 64), "kv": (32, 64), "o": (96, 64)}
    p = Program("test", {n: Weight(n, *s, int(Type.Q8_0)) for n, s in shapes.items()})
    x = p.embed(p.weight("e", 96, 64))
    q, k, v = (p.linear(x, p.weight(n, *shapes[n])) for n in ("q", "kv", "kv"))
    kv = p.kv_layer(1, 32)
    p.kv_write(kv, k, v)
    p.output(p.linear(p.select_rows(p.attention(q, kv, 2, 1.0)), p.weight("o", 96, 64)))
    return p


def works(n_rows: int, n_past: int) -> dict[str, Work]:
    return {work.name: work for work in count(_program(), n_rows, n_past, 1)}


def test_attention_reads_all_keys_and_multiplies_those_that_rows_see() -> None:
    attention = works(3, 10)["Attention"]
    assert attention.attention_flops == 4 * (11 + 12 + 13) * 64
    assert works(3, 110)["Attention"].other_bytes - attention.other_bytes == 2 * 100 * 32 * 2


def test_products_are_counted_in_tiles() -> None:
    first, *_ = (work for work in count(_program(), 17, 0, 1) if work.name == "Linears")
    assert first.tiles == {Format.INT8: (4 + 2 + 2) * 2 * 2}  # rows, blocks, tiles of activations
    assert (first.n_passes, first.kernel) == (1, "32")
    assert [w.n_passes for w in count(_program(), 65, 0, 1) if w.name == "Linears"] == [2, 1]


def test_the_slower_of_moving_and_computing_decides() -> None:
    moving = Work("a", 1, weight_bytes=500, other_bytes=500, tiles={Format.INT8: 0})
    assert RATES.seconds(moving) == pytest.approx(2e-6 + 1e-3)
    computing = Work("b", 3, weight_bytes=500, tiles={Format.INT4: 7}, kernel="64",
                     attention_flops=1e3)  # fmt: skip
    assert RATES.seconds(computing) == pytest.approx(6e-6 + 7 * 2.5 / 1e3 + 1e-3)


def test_what_the_cache_holds_is_read_once() -> None:
    small, large = (Work("a", 0, weight_bytes=n, n_passes=4) for n in (1000, 1001))
    assert RATES.seconds(small) == pytest.approx(1000 / 1e6)
    assert RATES.seconds(large) == pytest.approx(4004 / 1e6)


def test_a_prompt_is_read_in_steps() -> None:
    program = _program()
    steps = [(4, 0), (4, 4), (2, 8)]
    extra = Work("more", 1, other_bytes=100)
    expected = sum(RATES.step_s(count(program, n, past, 1, [extra])) for n, past in steps)
    assert prefill_s(RATES, program, 10, lambda _: [extra], n_rows=4) == pytest.approx(expected)
