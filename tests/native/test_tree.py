"""What the growing of trees refuses; tests/engine/speculation/test_tree.py says what it grows."""

import numpy as np
import pytest

from engine import _native
from engine.errors import NativeError

IDS, LOG_PROBS = np.zeros((3, 2), np.int32), np.zeros((3, 2), np.float32)
CHAIN = ((1, 2), (-0.5, -0.5))


def grow(*, log_probs=LOG_PROBS, chains=(CHAIN,), budget: int = 63, n_costs: int = 65) -> object:
    costs = [1.0] * n_costs
    return _native.grow_tree(0, IDS, log_probs, list(chains), budget, 63, costs, costs)


def test_a_block_and_chains_are_taken_as_they_are_said_to_be() -> None:
    tokens, parents, _, sources = _native.grow_tree(
        0, IDS[:0], LOG_PROBS[:0], [CHAIN], 9, 9, [], []
    )
    assert (tokens, parents, sources) == ([0, 1, 2], [-1, 0, 1], [0, 2, 2])


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
