"""PFlash's tail scoring on the GPU against float64 NumPy."""

import numpy as np
import pytest

from engine.backends.gpu.backend import GpuBackend
from engine.errors import NativeError
from tests.reference_model import softmax


@pytest.mark.parametrize(
    ("n_head", "n_kv", "dims", "sizes"),
    [(6, 2, 64, (30, 1, 200)), (5, 1, 32, (128, 3)), (2, 2, 128, (7,)), (3, 3, 32, (1,))],
)
def test_shares_are_the_mean_softmax_over_rows_and_heads(
    emulated: GpuBackend, n_head: int, n_kv: int, dims: int, sizes: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(n_head)
    queries = rng.standard_normal((9, 2, n_head, dims)).astype(np.float32) * 3
    keys = [rng.standard_normal((n, 2, n_kv, dims)).astype(np.float16) for n in sizes]
    found = emulated.attention_shares(queries, keys, 1, dims**-0.5)
    joined = np.concatenate(keys)[:, 1].astype(np.float64).repeat(n_head // n_kv, axis=1)
    scores = np.einsum("thd,nhd->thn", queries[:, 1].astype(np.float64), joined) * dims**-0.5
    np.testing.assert_allclose(found, softmax(scores).mean(axis=(0, 1)), rtol=1e-4)
    assert found.sum() == pytest.approx(1.0, rel=1e-5)


def test_no_keys_have_no_shares(emulated: GpuBackend) -> None:
    keys = [np.empty((0, 1, 2, 64), np.float16)]
    assert emulated.attention_shares(np.ones((3, 1, 4, 64), np.float32), keys, 0, 1.0).size == 0


def test_heads_of_another_size_are_refused(emulated: GpuBackend) -> None:
    keys = [np.ones((5, 1, 2, 48), np.float16)]
    with pytest.raises(NativeError, match="heads of 48"):
        emulated.attention_shares(np.ones((3, 1, 4, 48), np.float32), keys, 0, 1.0)
