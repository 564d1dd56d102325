"""Halves are the numbers they are packed from, as far as halves go."""

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type

from engine.backends.gpu.packing import BLOCK, TILE_ROWS, Format, Packed, pack, paired_rows


def packed(values: np.ndarray, kind: Type, order: np.ndarray | None = None) -> Packed:
    data = np.ascontiguousarray(gguf.quantize(values.astype(np.float32), kind)).view(np.uint8)
    return pack(int(kind), data.reshape(-1), *values.shape, order)


def meant(p: Packed) -> np.ndarray:
    """(rows of all tiles, columns), as quants.h reads them."""
    n_tiles, n_blocks = p.quants.shape[:2]
    numbers = p.quants.view(np.float16).reshape(n_tiles, n_blocks, TILE_ROWS, BLOCK)
    values = numbers.astype(np.float64) * p.scales.view(np.float32)
    return values.swapaxes(1, 2).reshape(n_tiles * TILE_ROWS, n_blocks * BLOCK)


def of_type(values: np.ndarray, kind: Type) -> np.ndarray:
    stored = gguf.quantize(values.astype(np.float32), kind)
    return gguf.dequantize(stored, kind).astype(np.float64)


@pytest.mark.parametrize(("kind", "n_binades"), [(Type.F16, 21), (Type.BF16, 24)])
@pytest.mark.parametrize("exponent", [-100, -14, 0, 15, 100])
def test_halves_keep_every_bit_of_most_numbers(kind: Type, n_binades: int, exponent: int) -> None:
    if kind is Type.F16 and abs(exponent) > 15:
        return
    rng = np.random.default_rng(0)
    below = rng.integers(0, n_binades if exponent > -14 else 10, (20, 64))
    values = np.ldexp(rng.uniform(0.5, 1, (20, 64)), exponent - below)
    values *= rng.choice([-1, 1], values.shape)
    found = packed(values, kind)
    assert found.format is Format.HALF
    np.testing.assert_array_equal(meant(found)[:20], of_type(values, kind))
    assert (meant(found)[20:] == 0).all()


def test_floats_are_rounded_to_halves() -> None:
    values = np.random.default_rng(0).standard_normal((16, 96)) * 1e-20
    np.testing.assert_allclose(meant(packed(values, Type.F32)), values, rtol=2**-11)


@pytest.mark.parametrize("kind", [Type.BF16, Type.F32])
def test_the_largest_and_the_least_floats_are_kept(kind: Type) -> None:
    values = np.full((16, 32), 3.3e38)
    values[1], values[2] = 1.2e-38, 0
    np.testing.assert_allclose(meant(packed(values, kind)), of_type(values, kind), rtol=2**-11)


def test_rows_come_in_the_order_that_is_asked_for() -> None:
    values = np.random.default_rng(0).standard_normal((64, 32))
    order = paired_rows(64, 64)
    np.testing.assert_array_equal(
        meant(packed(values, Type.F16, order)), of_type(values, Type.F16)[order]
    )
