"""Simulated steps are counted as the engine would take them."""

import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from engine.train.evaluate import TOP, Drafts, accepted_by_tree, measure  # noqa: E402

DEPTH = 4


def random_log_probs(seed: int) -> np.ndarray:
    logits = np.random.default_rng(seed).standard_normal((DEPTH, TOP)) * 2
    logits = -np.sort(-logits, axis=-1)
    return (logits - np.log(np.exp(logits).sum(-1, keepdims=True))).astype(np.float32)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("budget", [2, 3])
def test_a_small_tree_is_the_best_paths(seed: int, budget: int) -> None:
    """Against all paths, by score: the best `budget` of them are the tree."""
    log_probs = random_log_probs(seed)
    paths = [path for n in range(1, DEPTH + 1) for path in itertools.product(range(TOP), repeat=n)]
    score = {p: sum(float(log_probs[d, r]) for d, r in enumerate(p)) for p in paths}
    best = set(sorted(paths, key=lambda p: -score[p])[:budget])
    ranks = np.random.default_rng(seed + 100).integers(0, 3, DEPTH)

    expected = 0
    while expected < DEPTH and tuple(ranks[: expected + 1].tolist()) in best:
        expected += 1
    assert accepted_by_tree(log_probs, ranks, budget) == expected


def test_a_large_tree_holds_the_whole_chain() -> None:
    flat = np.full((DEPTH, TOP), np.log(1 / TOP), np.float32)

    assert accepted_by_tree(flat, np.zeros(DEPTH, np.int64), DEPTH) == DEPTH


def test_a_step_yields_what_is_accepted_and_one_token_more() -> None:
    # Anchors 0..5; at 0 two drafts are right, so the next step stands at 3, where none is.
    ranks = np.full((6, 3), TOP)
    ranks[0, :2] = 0
    ranks[4, :3] = 0
    drafts = Drafts(ranks, np.zeros((6, 3, TOP), np.float32))

    found = measure([drafts, None], budgets=())

    assert found.n_texts == 1
    assert found.chain == pytest.approx((3 + 1 + 4) / 3)
    assert found.first == pytest.approx(2 / 6)
