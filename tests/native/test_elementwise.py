"""rms_norm, rope, silu_mul and embed against float64 NumPy."""

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as WeightType

from engine import _native
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


@pytest.mark.parametrize("quant", ["Q4_K", "Q5_K", "Q6_K"])
def test_super_blocks_dequantize_as_gguf_says(quant: str) -> None:
    weight, packed, meant = random_blocks("w", 1, 512, quant, np.random.default_rng(3))
    found = _native.dequantize(packed, weight.type_id, 512)
    np.testing.assert_allclose(found, meant[0], rtol=1e-5, atol=1e-6)


def test_half_floats_round_trip_through_dequantize() -> None:
    halves = np.arange(65536, dtype=np.uint16)
    finite = np.isfinite(halves.view(np.float16))
    found = _native.dequantize(halves.view(np.uint8), int(WeightType.F16), 65536)
    np.testing.assert_array_equal(found[finite], halves.view(np.float16)[finite].astype(np.float32))
