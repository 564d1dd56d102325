"""Trees of drafts against a second definition: every path there is, sorted."""

from itertools import product
from math import exp

import numpy as np
import pytest

from engine.config import MOST_TREE_NODES
from engine.speculation.controller import Controller
from engine.speculation.costs import StepCosts
from engine.speculation.draft import ROOT, BlockDraft, ChainDraft, DraftTree
from engine.speculation.tree import build_tree

Path = tuple[int, ...]


def random_block(rng: np.random.Generator, n_depths: int, n_ranks: int) -> BlockDraft:
    ids = [rng.choice(9, n_ranks, replace=False) for _ in range(n_depths)]
    shares = np.sort(rng.dirichlet(np.ones(n_ranks + 1), n_depths))[:, :0:-1]
    return BlockDraft(np.array(ids, np.int32), np.log(shares).astype(np.float32))


def random_chain(rng: np.random.Generator, source: str, block: BlockDraft) -> ChainDraft:
    """A run that follows the block for a while, so that the two share nodes."""
    n_shared = int(rng.integers(0, len(block.ids) + 1))
    shared = [int(rng.choice(row)) for row in block.ids[:n_shared]]
    tokens = (*shared, *map(int, rng.integers(0, 9, 4)))
    return ChainDraft(tokens, tuple(np.log(rng.uniform(0.1, 1, len(tokens))).tolist()), source)


def paths_of(tree: DraftTree) -> list[Path]:
    paths: list[Path] = [()]
    for token, parent in zip(tree.tokens[1:], tree.parents[1:], strict=True):
        paths.append((*paths[parent], token))
    return paths


def every_path(block: BlockDraft, chains: list[ChainDraft]) -> dict[Path, tuple[float, set[str]]]:
    """The probability of every path that any mix of sources proposes, and who proposes it."""
    found: dict[Path, tuple[float, set[str]]] = {(): (1.0, set())}
    frontier: list[Path] = [()]
    while frontier:
        path = frontier.pop()
        depth = len(path)
        offers: dict[int, list[tuple[float, str]]] = {}
        of_block = depth < len(block.ids) and all(
            t in row for t, row in zip(path, block.ids.tolist(), strict=False)
        )
        if of_block:
            for token, log_prob in zip(block.ids[depth], block.log_probs[depth], strict=True):
                offers.setdefault(int(token), []).append((exp(log_prob), "dflash"))
        for chain in chains:
            if chain.tokens[:depth] == path and depth < len(chain.tokens):
                offer = (exp(chain.log_probs[depth]), chain.source)
                offers.setdefault(chain.tokens[depth], []).append(offer)
        for token, offered in offers.items():
            share = max(p for p, _ in offered)
            found[*path, token] = (found[path][0] * share, {source for _, source in offered})
            frontier.append((*path, token))
    return found


@pytest.mark.parametrize("budget", [1, 2, 3, 5, 9, 20, 40])
@pytest.mark.parametrize("n_chains", [0, 1, 2])
def test_the_tree_holds_the_greedy_chain_and_then_the_likeliest_paths(
    budget: int, n_chains: int
) -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        block = random_block(rng, 3, 3)
        chains = [random_chain(rng, f"chain {i}", block) for i in range(n_chains)]
        possible = every_path(block, chains)
        greedy = [tuple(block.ids[: d + 1, 0].tolist()) for d in range(min(3, budget))]
        rest = sorted((p for q, (p, _) in possible.items() if q and q not in greedy), reverse=True)
        expected = [possible[path][0] for path in greedy] + rest[: budget - len(greedy)]

        tree = build_tree(5, block, chains, budget=budget)
        paths = paths_of(tree)
        np.testing.assert_allclose(
            np.exp(tree.log_probs[1:]), sorted(expected, reverse=True), rtol=1e-5
        )
        assert set(greedy) <= set(paths)
        for path, log_prob, sources in zip(paths, tree.log_probs, tree.sources, strict=True):
            assert exp(log_prob) == pytest.approx(possible[path][0], rel=1e-5)
            assert set(sources) == possible[path][1]


@pytest.mark.parametrize(("budget", "max_depth"), [*product([0, 1, 7, 63, 200], [0, 1, 4, 63])])
def test_a_tree_is_well_formed_within_its_limits(budget: int, max_depth: int) -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        block = random_block(rng, 12, 6)
        chains = [random_chain(rng, "lookup", block) for _ in range(2)]
        for sources in ((block, chains), (block, []), (None, chains)):
            tree = build_tree(3, *sources, budget=budget, max_depth=max_depth)
            paths = paths_of(tree)
            assert (tree.tokens[0], tree.parents[0]) == (3, ROOT)
            assert tree.n_nodes <= min(budget, MOST_TREE_NODES)
            assert all(parent < row for row, parent in enumerate(tree.parents))
            assert len(set(paths)) == len(paths)
            assert max(map(len, paths)) <= max_depth
            assert list(tree.log_probs) == sorted(tree.log_probs, reverse=True)


@pytest.mark.parametrize("price", [0.01, 0.05, 0.3])
def test_growing_by_costs_leaves_out_what_no_step_would_verify(price: float) -> None:
    costs = StepCosts({1: 1.0, 8: 1.0 + 7 * price, 64: 1.0 + 80 * price})
    controller = Controller(costs)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        block = random_block(rng, 12, 6)
        chains = [random_chain(rng, "lookup", block) for _ in range(2)]
        for sources in ((block, chains), (block, []), (None, chains)):
            whole, grown = build_tree(3, *sources), build_tree(3, *sources, costs=costs)
            n_nodes = controller.choose_size(whole).n_nodes
            assert n_nodes <= grown.n_nodes <= whole.n_nodes
            assert grown.cut(n_nodes) == whole.cut(n_nodes)
            assert controller.choose_size(grown).n_nodes == n_nodes


def test_no_source_leaves_plain_decoding() -> None:
    assert build_tree(4, None) == DraftTree.of_root(4)
