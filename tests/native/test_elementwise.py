"""rms_norm, rope, silu_mul, concat, top_k and embed against float64 NumPy."""

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as WeightType

from engine import _native
from engine.errors import NativeError
from engine.ops import Activation
from engine.program import Program
from tests.native.program_runner import ISAS, ProgramRunner, f32_weight, random_blocks


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("width", [8, 64, 100, 896])
def test_rms_norm_equals_float64(isa: str, width: int) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, width)).astype(np.float32)
    scale = rng.standard_normal(width).astype(np.float32)
    weight, data = f32_weight("w", scale)
    run = ProgramRunner(lambda p, a: p.rms_norm(a, weight, 1e-5), x, {"w": (weight, data)}, isa=isa)
    wide = x.astype(np.float64)
    expected = wide / np.sqrt((wide**2).mean(axis=1, keepdims=True) + 1e-5) * scale
    np.testing.assert_allclose(run.run(), expected, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("is_neox", [True, False])
@pytest.mark.parametrize("n_rot", [16, 8])
def test_rope_rotates_pairs_by_position(isa: str, is_neox: bool, n_rot: int) -> None:
    head_dim, n_heads, n_past = 16, 3, 5000
    x = np.random.default_rng(1).standard_normal((4, n_heads * head_dim)).astype(np.float32)
    frequencies = tuple(10000.0 ** (-2 * i / n_rot) for i in range(n_rot // 2))
    run = ProgramRunner(lambda p, a: p.rope(a, frequencies, head_dim, is_neox), x, isa=isa)
    expected = x.astype(np.float64).reshape(4, n_heads, head_dim).copy()
    stored = np.array(frequencies, np.float32).astype(np.float64)
    for t in range(4):
        for i, frequency in enumerate(stored):
            a, b = (i, i + n_rot // 2) if is_neox else (2 * i, 2 * i + 1)
            c, s = np.cos((n_past + t) * frequency), np.sin((n_past + t) * frequency)
            first, second = expected[t, :, a].copy(), expected[t, :, b].copy()
            expected[t, :, a], expected[t, :, b] = first * c - second * s, first * s + second * c
    np.testing.assert_allclose(
        run.run(n_past=n_past), expected.reshape(4, -1), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("isa", ISAS)
def test_silu_mul_equals_float64_over_the_whole_range(isa: str) -> None:
    x = np.concatenate([np.linspace(-120, 120, 1001), np.linspace(-3, 3, 999)]).astype(np.float32)
    run = ProgramRunner(lambda p, a: p.silu_mul(a, a), x[None], isa=isa)
    wide = x.astype(np.float64)
    expected = wide / (1 + np.exp(-wide)) * wide
    np.testing.assert_allclose(run.run()[0], expected, rtol=2e-6, atol=1e-30)


@pytest.mark.parametrize("quant", ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"])
def test_rows_dequantize_as_gguf_says(quant: str) -> None:
    values = np.random.default_rng(2).standard_normal((1, 256)).astype(np.float32)
    kind = WeightType[quant]
    packed = np.ascontiguousarray(gguf.quantize(values, kind)).view(np.uint8).reshape(-1)
    expected = gguf.dequantize(packed.reshape(1, -1), kind)[0]
    np.testing.assert_allclose(_native.dequantize(packed, int(kind), 256), expected, rtol=1e-6)


@pytest.mark.parametrize("quant", ["IQ4_NL", "Q4_K", "Q5_K", "Q6_K"])
def test_types_gguf_only_reads_dequantize_as_it_says(quant: str) -> None:
    weight, packed, meant = random_blocks("w", 1, 512, quant, np.random.default_rng(3))
    found = _native.dequantize(packed, weight.type_id, 512)
    np.testing.assert_allclose(found, meant[0], rtol=1e-5, atol=1e-6)


def test_half_floats_round_trip_through_dequantize() -> None:
    halves = np.arange(65536, dtype=np.uint16)
    finite = np.isfinite(halves.view(np.float16))
    found = _native.dequantize(halves.view(np.uint8), int(WeightType.F16), 65536)
    np.testing.assert_array_equal(found[finite], halves.view(np.float16)[finite].astype(np.float32))


@pytest.mark.parametrize("isa", ISAS)
def test_a_norm_of_head_width_normalizes_every_head(isa: str) -> None:
    x = np.random.default_rng(4).standard_normal((3, 6 * 16)).astype(np.float32)
    scale = np.random.default_rng(5).standard_normal(16).astype(np.float32)
    weight, data = f32_weight("w", scale)
    run = ProgramRunner(lambda p, a: p.rms_norm(a, weight, 1e-6), x, {"w": (weight, data)}, isa=isa)
    heads = x.astype(np.float64).reshape(3, 6, 16)
    expected = heads / np.sqrt((heads**2).mean(axis=2, keepdims=True) + 1e-6) * scale
    np.testing.assert_allclose(run.run(), expected.reshape(3, -1), rtol=2e-6, atol=1e-6)


def test_concat_puts_rows_side_by_side() -> None:
    x = np.random.default_rng(6).standard_normal((5, 8)).astype(np.float32)
    weight, data = f32_weight("w", np.eye(12, 8, dtype=np.float32))

    def build(p: Program, a: Activation) -> Activation:
        return p.concat([a, p.linear(a, weight), a])

    found = ProgramRunner(build, x, {"w": (weight, data)}, n_threads=2).run()
    expected = np.concatenate([x, x, np.zeros((5, 4), np.float32), x], axis=1)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("n_vocab", "k"), [(8, 8), (64, 1), (1000, 8), (5003, 5)])
def test_top_k_is_the_sorted_head_of_log_softmax(isa: str, n_vocab: int, k: int) -> None:
    logits = np.random.default_rng(n_vocab).normal(0, 4, (6, n_vocab)).astype(np.float32)
    logits[3] = np.round(logits[3])  # many ties
    run = ProgramRunner(lambda p, a: a, logits, isa=isa, n_threads=2, top_k=k)
    run.run()
    ids, log_probs = run.model.top_k(6)
    wide = logits.astype(np.float64)
    log_softmax = wide - np.log(np.exp(wide).sum(axis=1, keepdims=True))
    expected = np.argsort(-wide, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(ids, expected)
    np.testing.assert_allclose(
        log_probs, np.take_along_axis(log_softmax, expected, axis=1), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_top_k_of_logits_that_are_not_finite_is_an_error(bad: float) -> None:
    run = ProgramRunner(lambda p, a: a, np.full((1, 64), bad, np.float32), top_k=4)
    run.run()
    with pytest.raises(NativeError, match="not finite"):
        run.model.top_k(1)
