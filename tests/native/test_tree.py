"""What the growing of trees refuses; tests/engine/speculation/test_tree.py says what it grows."""

import numpy as np
import pytest

from engine import _native
from engine.errors import NativeError

IDS, LOG_PROBS = np.zeros((3, 2), np.int32), np.zeros((3, 2), np.float32)
CHAIN = ((1, 2), (-0.5, -0.5))


def grow(*, log_probs=LOG_PROBS, chains=(CHAIN,), budget: int = 63, n_costs: int = 65) -> object:
    costs = np.ones((2, n_costs))
    return _native.grow_tree(0, IDS, log_probs, list(chains), budget, 63, costs)


def test_a_block_and_chains_are_taken_as_they_are_said_to_be() -> None:
    tokens, parents, _, sources = _native.grow_tree(
        0, IDS[:0], LOG_PROBS[:0], [CHAIN], 9, 9, np.zeros((2, 0))
    )
    assert (tokens, parents, sources) == ((0, 1, 2), (-1, 0, 1), (0, 2, 2))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"log_probs": LOG_PROBS[:2]}, "shape"),
        ({"chains": [((1,), ())]}, "number"),
        ({"chains": [CHAIN] * 32}, "bits"),
        ({"n_costs": 64}, "costs of fewer rows"),
    ],
)
def test_what_does_not_fit_is_refused(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(NativeError, match=said):
        grow(**wrong)  # type: ignore[arg-type]


def test_the_best_size_decides_the_most_tokens_in_its_time() -> None:
    costs = np.array([[0.0, 1.0, 1.1, 1.3, 3.0, 3.1], [0.0] * 6])
    log_probs = tuple(np.log([1.0, 0.5, 0.25, 0.2, 0.1]).tolist())
    found = _native.best_size(log_probs, costs, 5)
    assert found == pytest.approx((1, 1.5 / 1.1, 1.0, 2.05))
    assert _native.best_size(log_probs, costs, 1) == pytest.approx((0, 1.0, 1.0, 1.0))
    for of_rows, most in (((), 5), (log_probs, 0)):
        with pytest.raises(NativeError, match="no rows"):
            _native.best_size(of_rows, costs, most)
    with pytest.raises(NativeError, match="expected what steps cost"):
        _native.best_size(log_probs, costs[0][None], 5)


def test_paths_are_the_rows_above_each_row() -> None:
    positions, depth = np.full((2, 70), -1, np.int32)
    path = np.full((64, 64), 255, np.uint8)
    parents = np.array([-1, 0, 0, 1, 3, -1], np.int32)
    assert not _native.fill_paths(parents, 9, positions, depth, path)
    assert positions[:6].tolist() == [9, 10, 10, 11, 12, 9]
    assert depth.tolist() == [0, 1, 1, 2, 3, 0] + [-1] * 64
    expected = [[0], [0, 1], [0, 2], [0, 1, 3], [0, 1, 3, 4], [5]]
    assert [path[i, : len(rows)].tolist() for i, rows in enumerate(expected)] == expected
    assert all((path[i, len(rows) :] == 255).all() for i, rows in enumerate(expected))


def test_a_chain_may_have_more_rows_than_a_tree() -> None:
    positions, depth = np.full((2, 70), -1, np.int32)
    path = np.full((64, 64), 255, np.uint8)
    assert _native.fill_paths(np.arange(-1, 69, dtype=np.int32), 9, positions, depth, path)
    assert positions.tolist() == list(range(9, 79))
    assert depth.tolist() == list(range(70))
    assert (path == 255).all()
    bad = [[-1, 1], [-2, 0], [*range(-1, 68), 5], [*range(-1, 70)]]
    for parents in bad:
        with pytest.raises(NativeError, match="fill_paths"):
            _native.fill_paths(np.array(parents, np.int32), 9, positions, depth, path)
