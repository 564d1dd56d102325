"""The best of rows of logits, against a sort of all of them."""

import numpy as np
import pytest

from engine.backends.likeliest import likeliest
from engine.errors import NativeError


def hard_rows(width: int) -> np.ndarray:
    """Of many equals, of one large number in each part, of few finite numbers."""
    rng = np.random.default_rng(width)
    ties, few = rng.integers(-3, 4, width), np.full(width, -np.inf)
    few[[0, width // 2, -1]] = 1, 1, 2
    zeros = np.where(rng.random(width) < 0.5, -0.0, 0.0)
    rows = [rng.standard_normal(width), ties, zeros, few, np.arange(width), -np.arange(width)]
    return np.stack(rows).astype(np.float32)


@pytest.mark.parametrize("width", [1, 63, 128, 5000, 8192, 8192 + 127])
@pytest.mark.parametrize("k", [1, 40, 64, 10_000])
def test_the_best_come_in_order_and_the_lowest_of_equals_first(width: int, k: int) -> None:
    logits = hard_rows(width)
    ids, found = likeliest(logits, k)
    expected = np.argsort(-logits, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(ids, expected)
    np.testing.assert_array_equal(found, np.take_along_axis(logits, expected, axis=1))
    assert (ids.dtype, found.dtype) == (np.int32, np.float32)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("place", [0, 4000, 4999])
def test_a_number_that_is_none_is_an_error(bad: float, place: int) -> None:
    logits = hard_rows(5000)
    logits[1, place] = bad
    with pytest.raises(NativeError, match="expected a finite number"):
        likeliest(logits, 40)


def test_a_row_without_any_number_is_an_error() -> None:
    with pytest.raises(NativeError, match="expected a finite number"):
        likeliest(np.full((1, 300), -np.inf, np.float32), 40)
