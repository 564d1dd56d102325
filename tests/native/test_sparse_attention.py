"""Block-sparse attention (SPEC C.6): its selection and result against float64 NumPy, and the bits
of dense attention where every block is selected."""

from collections.abc import Iterator

import numpy as np
import pytest

from engine.errors import NativeError
from engine.ops import BlockSparse
from tests.native.test_attention import (
    HEAD_DIM,
    KV,
    KV_TYPES,
    N_HEAD,
    N_KV,
    Q,
    make_runner,
    reference,
    rows_of,
    stored,
)

BLOCK = 64
N_ROWS = 6 * BLOCK + 40


def run_steps(x: np.ndarray, sparse: BlockSparse | None, **options: object) -> np.ndarray:
    runner = make_runner(x, sparse=sparse, **options)
    found = [
        runner.run(list(range(start, min(start + BLOCK, len(x)))), n_past=start)
        for start in range(0, len(x), BLOCK)
    ]
    return np.concatenate(found)


def selected_blocks(
    x: np.ndarray, sparse: BlockSparse, kv_type: str
) -> Iterator[tuple[int, int, list[int]]]:
    """Per step and head the blocks before the step that are selected, by the definition."""
    q = x[:, :Q].astype(np.float64).reshape(-1, N_HEAD, HEAD_DIM)
    k = stored(x[:, Q : Q + KV].reshape(-1, N_KV, HEAD_DIM), kv_type, is_key=True)  # type: ignore[arg-type]
    for step in range(-(-len(x) // BLOCK)):
        rows = slice(step * BLOCK, min((step + 1) * BLOCK, len(x)))
        for head in range(N_HEAD):
            keys = k[: step * BLOCK, head // (N_HEAD // N_KV)]
            means = keys.reshape(step, BLOCK, HEAD_DIM).mean(axis=1) if step else keys[:0]
            weights = np.exp(q[rows, head] @ means.T * HEAD_DIM**-0.5)
            scores = (weights / weights.sum(axis=1, keepdims=True)).sum(axis=0)
            best = scores.max(initial=0.0)
            yield (
                step,
                head,
                [
                    n
                    for n in range(step)
                    if n < sparse.n_sink
                    or step - n < sparse.n_window
                    or scores[n] >= sparse.alpha * best
                ],
            )


def expected_of(x: np.ndarray, sparse: BlockSparse, kv_type: str) -> tuple[np.ndarray, float]:
    """The result, and the share of the blocks before the steps that is seen."""
    out = np.zeros((len(x), N_HEAD, HEAD_DIM))
    n_seen = n_all = 0
    for step, head, blocks in selected_blocks(x, sparse, kv_type):
        n_seen, n_all = n_seen + len(blocks), n_all + step
        before = [n * BLOCK + i for n in blocks for i in range(BLOCK)]
        rows = range(step * BLOCK, min((step + 1) * BLOCK, len(x)))
        visible = [[] for _ in range(len(x))]
        for t in rows:
            visible[t] = [*before, *range(step * BLOCK, t + 1)]
        some = x.copy()
        dense = reference_rows(some, visible, list(rows), kv_type)
        out[rows.start : rows.stop, head] = dense.reshape(-1, N_HEAD, HEAD_DIM)[:, head]
    return out.reshape(len(x), Q), n_seen / n_all


def reference_rows(
    x: np.ndarray, visible: list[list[int]], rows: list[int], kv_type: str
) -> np.ndarray:
    """The reference for some rows; the others see their first key alone."""
    seen = [visible[t] if t in set(rows) else [0] for t in range(len(x))]
    return reference(x, seen, kv_type)[rows]  # type: ignore[arg-type]


@pytest.mark.parametrize("kv_type", KV_TYPES)
def test_rows_see_the_selected_blocks_alone(kv_type: str) -> None:
    x = rows_of(N_ROWS, seed=5)
    # Queries agree on a direction, and blocks of keys differ in it.
    x[:, :Q] += 0.5
    for block in range(N_ROWS // BLOCK):
        x[block * BLOCK : (block + 1) * BLOCK, Q : Q + KV] += 0.3 * (block * 2 % 5)
    sparse = BlockSparse(alpha=0.4, block=BLOCK, n_sink=1, n_window=2)
    expected, share = expected_of(x, sparse, kv_type)
    assert 0.3 < share < 0.9
    found = run_steps(x, sparse, kv_type=kv_type)
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=3e-5)


@pytest.mark.parametrize("kv_type", KV_TYPES)
@pytest.mark.parametrize("n_threads", [1, 3])
def test_with_every_block_selected_the_bits_are_those_of_dense_attention(
    kv_type: str, n_threads: int
) -> None:
    x = rows_of(N_ROWS)
    dense = run_steps(x, None, kv_type=kv_type)
    sparse = BlockSparse(alpha=0.0, block=BLOCK, n_sink=0, n_window=0)
    found = run_steps(x, sparse, kv_type=kv_type, n_threads=n_threads)
    np.testing.assert_array_equal(found, dense)


def test_the_thread_count_changes_no_bit() -> None:
    x = rows_of(N_ROWS, seed=2)
    sparse = BlockSparse(alpha=0.9, block=BLOCK, n_sink=1, n_window=1)
    one = run_steps(x, sparse, n_threads=1)
    np.testing.assert_array_equal(run_steps(x, sparse, n_threads=4), one)


@pytest.mark.parametrize(
    "wrong",
    [BlockSparse(0.5, block=33), BlockSparse(1.5), BlockSparse(0.5, n_sink=-1)],
)
def test_a_selection_that_makes_no_sense_is_refused(wrong: BlockSparse) -> None:
    with pytest.raises(NativeError, match="attention"):
        make_runner(rows_of(4), sparse=wrong)
