"""linear: every weight type against a float64 product, and every path against every other."""

import gguf
import numpy as np
import pytest

from tests.native.program_runner import (
    ISAS,
    ProgramRunner,
    f32_weight,
    quantized_weight,
    random_blocks,
)

# gguf can quantize the first row; the others are tested with random bits.
QUANTIZABLE = ("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0")
K_QUANTS = ("Q4_K", "Q5_K", "Q6_K")
RANDOM = ("IQ4_NL", *K_QUANTS)
ALL_TYPES = QUANTIZABLE + RANDOM

PLAIN = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "IQ4_NL")
BLOCK = dict.fromkeys(PLAIN, 32) | dict.fromkeys(K_QUANTS, 256)
# Sums of a few hundred products in f32.
RELATIVE_TOLERANCE = 3e-6


def rounded(x: np.ndarray, quant: str) -> np.ndarray:
    """Activations as a linear of this weight type sees them: eight bits per block, or exact."""
    if quant not in BLOCK:
        return x.astype(np.float64)
    blocks = x.reshape(len(x), -1, BLOCK[quant])
    largest = np.abs(blocks).max(axis=-1, keepdims=True)
    inverse = np.where(largest > 0, np.float32(127) / largest, np.float32(0))
    scale = (largest / np.float32(127)).astype(np.float64)
    return (np.rint(blocks * inverse) * scale).reshape(x.shape)


def make(quant: str, n_out: int, n_cols: int, rng: np.random.Generator):
    if quant in RANDOM:
        return random_blocks("w", n_out, n_cols, quant, rng)
    values = rng.standard_normal((n_out, n_cols)).astype(np.float32)
    return quantized_weight("w", values, quant)


def runner(quant, n_out, x, rng, **options) -> tuple[ProgramRunner, np.ndarray]:
    weight, data, meant = make(quant, n_out, x.shape[1], rng)
    run = ProgramRunner(lambda p, a: p.linear(a, weight), x, {"w": (weight, data)}, **options)
    return run, meant


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("quant", ALL_TYPES)
def test_products_equal_float64_over_the_rounded_activations(quant: str, isa: str) -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((5, 512)).astype(np.float32)
    run, meant = runner(quant, 27, x, rng, isa=isa)
    expected = rounded(x, quant) @ meant.T
    magnitude = np.abs(rounded(x, quant)) @ np.abs(meant).T
    assert (np.abs(run.run() - expected) / magnitude).max() < RELATIVE_TOLERANCE


@pytest.mark.parametrize("quant", ALL_TYPES)
def test_rounding_activations_costs_less_than_one_percent(quant: str) -> None:
    x = np.random.default_rng(9).standard_normal((16, 1024)).astype(np.float32)
    error = np.sqrt(((rounded(x, quant) - x) ** 2).mean() / (x**2).mean())
    assert error < 0.01


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("quant", ALL_TYPES)
def test_a_row_is_bit_equal_whatever_is_computed_beside_it(quant: str, isa: str) -> None:
    rng = np.random.default_rng(2)
    x = rng.standard_normal((100, 256)).astype(np.float32)
    run, _ = runner(quant, 19, x, rng, isa=isa)
    together = run.run()
    for rows in ([0], [63, 64, 65], [99, 3], list(range(40, 80))):
        np.testing.assert_array_equal(run.run(rows), together[rows])


@pytest.mark.parametrize("quant", ALL_TYPES)
def test_the_thread_count_changes_no_bit(quant: str) -> None:
    x = np.random.default_rng(3).standard_normal((7, 256)).astype(np.float32)
    results = [
        runner(quant, 45, x, np.random.default_rng(4), n_threads=n)[0].run() for n in (1, 2, 5)
    ]
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


@pytest.mark.parametrize("quant", ALL_TYPES)
def test_fast_paths_agree_with_the_portable_one(quant: str) -> None:
    x = np.random.default_rng(5).standard_normal((9, 512)).astype(np.float32)
    portable, *fast = (
        runner(quant, 37, x, np.random.default_rng(6), isa=isa)[0].run() for isa in ISAS
    )
    for other in fast:
        # Integer sums are equal; only the fused multiply-add of the float part differs.
        np.testing.assert_allclose(other, portable, rtol=2e-5, atol=2e-5 * np.abs(portable).max())
        np.testing.assert_array_equal(other, fast[0])


def test_bias_and_residual_are_added_after_the_product() -> None:
    rng = np.random.default_rng(7)
    x = rng.standard_normal((4, 64)).astype(np.float32)
    weight, data, meant = make("F32", 64, 64, rng)
    bias, bias_data = f32_weight("b", rng.standard_normal(64).astype(np.float32))
    run = ProgramRunner(
        lambda p, a: p.linear(a, weight, bias=bias, residual=a),
        x,
        {"w": (weight, data), "b": (bias, bias_data)},
    )
    expected = x @ meant.T + bias_data.view(np.float32) + x
    np.testing.assert_allclose(run.run(), expected, rtol=1e-5, atol=1e-5)


def test_largest_quants_do_not_overflow_their_integer_sums() -> None:
    x = np.full((2, 256), 1.0, np.float32)
    for quant in ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"):
        values = np.full((8, 256), -1.0, np.float32)
        values[::2] = 1.0
        weight, data, meant = quantized_weight("w", values, quant)
        for isa in ISAS:
            run = ProgramRunner(
                lambda p, a, w=weight: p.linear(a, w), x, {"w": (weight, data)}, isa=isa
            )
            np.testing.assert_allclose(run.run(), x @ meant.T, rtol=1e-4)
    for quant in K_QUANTS:
        weight, data, _ = random_blocks("w", 8, 256, quant, np.random.default_rng(8))
        n_bytes = len(data) // 8
        data = np.full_like(data, 0xFF).reshape(8, n_bytes)
        for offset in {"Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)}[quant]:
            data[:, offset : offset + 2] = np.array([0.01], np.float16).view(np.uint8)
        meant = gguf.dequantize(data, gguf.GGMLQuantizationType(weight.type_id)).astype(np.float64)
        flat = data.reshape(-1)
        for isa in ISAS:
            run = ProgramRunner(
                lambda p, a, w=weight: p.linear(a, w), x, {"w": (weight, flat)}, isa=isa
            )
            np.testing.assert_allclose(run.run(), x @ meant.T, rtol=1e-3)


def test_not_a_number_stays_visible() -> None:
    x = np.ones((1, 64), np.float32)
    x[0, 5] = np.nan
    weight, data, _ = quantized_weight("w", np.ones((8, 64), np.float32), "Q8_0")
    run = ProgramRunner(lambda p, a: p.linear(a, weight), x, {"w": (weight, data)})
    assert np.isnan(run.run()).all()
