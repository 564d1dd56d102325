"""Grows one tree of drafts from all sources: DDTree (SPEC B.5), with chains beside the block.

A node is the path that leads to it: two sources that propose the same path share one, which has
the larger of their probabilities and, below it, the continuations of both. It is grown in
native/cpu/tree.cpp: in Python that took a tenth of a GPU's step.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np

from engine import _native
from engine.config import MOST_TREE_NODES
from engine.speculation.costs import StepCosts
from engine.speculation.draft import BlockDraft, ChainDraft, DraftTree

BLOCK_SOURCE = "dflash"
_NO_IDS, _NO_LOG_PROBS = np.zeros((0, 0), np.int32), np.zeros((0, 0), np.float32)
_NO_COSTS = np.zeros((2, 0))


def build_tree(
    root: int,
    block: BlockDraft | None,
    chains: Sequence[ChainDraft] = (),
    *,
    budget: int = MOST_TREE_NODES,
    max_depth: int = MOST_TREE_NODES,
    costs: StepCosts | None = None,
) -> DraftTree:
    """The likeliest `budget` nodes at depths 1..max_depth, in descending order of path probability.

    The block's greedy chain is always among them as far as the budget goes: drafters misjudge how
    sure they are, and a tree grown by their word alone is broad and shallow. With `costs` of steps,
    it grows no further than where another row decides fewer tokens in its time than the tree does.
    """
    ids, log_probs = (_NO_IDS, _NO_LOG_PROBS) if block is None else (block.ids, block.log_probs)
    tokens, parents, scores, marks = _native.grow_tree(
        root,
        ids,
        log_probs,
        [(chain.tokens, chain.log_probs) for chain in chains],
        min(budget, MOST_TREE_NODES),
        max_depth,
        _NO_COSTS if costs is None else costs.table,
    )
    names = (BLOCK_SOURCE, *[chain.source for chain in chains])
    sources = {mark: _marked(names, mark) for mark in set(marks)}
    return DraftTree(tokens, parents, scores, tuple(map(sources.__getitem__, marks)))


def best_size(tree: DraftTree, costs: StepCosts) -> tuple[int, float, float, float]:
    """How many nodes of a tree to verify for the most expected tokens per millisecond; the rates
    with them and with none; and how many tokens a step with all of them decides.

    The root's row always decides one token; a node adds the probability that its path is right.
    """
    return _native.best_size(tree.log_probs, costs.table, costs.most_rows)


@cache
def _marked(names: tuple[str, ...], mark: int) -> tuple[str, ...]:
    """The names whose bits are set, each once."""
    return tuple(dict.fromkeys(name for i, name in enumerate(names) if mark >> i & 1))
