"""Grows one tree of drafts from all sources: DDTree (SPEC B.5), with chains beside the block.

A node is the path that leads to it: two sources that propose the same path share one, which has
the larger of their probabilities and, below it, the continuations of both.
"""

from collections.abc import Sequence
from heapq import heappop, heappush
from itertools import accumulate
from math import exp

from engine.config import MOST_TREE_NODES
from engine.speculation.costs import StepCosts
from engine.speculation.draft import ROOT, BlockDraft, ChainDraft, DraftTree

BLOCK_SOURCE = "dflash"
_Cursor = tuple[int, int]  # a chain's index, and how many of its tokens led here


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
    growth = _Growth(root, block, chains, max_depth)
    budget = min(budget, MOST_TREE_NODES)
    if budget > 0:
        growth.seed(budget)
        growth.fill(budget, costs)
    return growth.tree()


def expected_tokens(tree: DraftTree) -> list[float]:
    """How many tokens a step decides on average with the tree's first 0, 1, ... nodes.

    The root's row always decides one more; a node adds the probability that its path is right.
    """
    return list(accumulate((exp(p) for p in tree.log_probs[1:]), initial=1.0))


class _Growth:
    """A tree under construction. Nodes have the index of their creation until `tree` sorts them."""

    def __init__(
        self, root: int, block: BlockDraft | None, chains: Sequence[ChainDraft], max_depth: int
    ) -> None:
        self._chains = chains
        self._ids: list[list[int]] = []
        self._log_probs: list[list[float]] = []
        if block is not None:
            self._ids, self._log_probs = block.ids.tolist(), block.log_probs.tolist()
        self._ranks = [set(ids) for ids in self._ids] if chains else []
        self._max_depth = max_depth
        self._tokens, self._parents, self._depths = [root], [ROOT], [0]
        self._scores = [0.0]
        self._sources: list[tuple[str, ...]] = [()]
        self._is_of_block = [block is not None]
        self._cursors: list[tuple[_Cursor, ...]] = [tuple((i, 0) for i in range(len(chains)))]
        self._known: set[tuple[int, int]] = set()
        # (-score, order, parent, token, rank in the block or -1 for a chain's token)
        self._heap: list[tuple[float, int, int, int, int]] = []
        self._n_pushed = 0

    def seed(self, budget: int) -> None:
        """Adds the block's greedy chain, every sibling and chain on its way being pushed."""
        self._push_children(0, skip_first=True)
        node = 0
        for depth in range(min(len(self._ids), budget, self._max_depth)):
            score = self._scores[node] + self._log_probs[depth][0]
            parent, node = node, self._add(node, self._ids[depth][0], score)
            self._push_sibling(parent, 0)
            self._push_children(node, skip_first=depth + 1 < budget)

    def fill(self, budget: int, costs: StepCosts | None) -> None:
        """Takes the likeliest of what was pushed until there are `budget` nodes, or none that is
        left is worth its row."""
        seeds = [exp(score) for score in reversed(self._scores[1:])]
        n_rows, n_expected = 1, 1.0  # of nodes at least as likely as what is popped
        while self._heap and len(self._tokens) <= budget:
            negative, _, parent, token, rank = heappop(self._heap)
            probability = exp(-negative)
            while seeds and seeds[-1] >= probability:
                n_rows, n_expected = n_rows + 1, n_expected + seeds.pop()
            if costs is not None and probability < n_expected * costs.least_share(n_rows):
                return
            if rank >= 0:
                self._push_sibling(parent, rank)
            if (parent, token) not in self._known:
                n_rows, n_expected = n_rows + 1, n_expected + probability
                self._push_children(self._add(parent, token, -negative))

    def tree(self) -> DraftTree:
        # A child is never likelier than its parent, and the sort is stable: parents come first.
        order = sorted(range(len(self._tokens)), key=lambda node: -self._scores[node])
        rows = [0] * len(order)
        for row, node in enumerate(order):
            rows[node] = row
        return DraftTree(
            tokens=tuple(self._tokens[node] for node in order),
            parents=tuple(rows[self._parents[n]] if n else ROOT for n in order),
            log_probs=tuple(self._scores[node] for node in order),
            sources=tuple(self._sources[node] for node in order),
        )

    def _add(self, parent: int, token: int, score: float) -> int:
        """A node of every source that proposes `token` after `parent`; the likeliest one counts."""
        node, depth = len(self._tokens), self._depths[parent]
        cursors: list[_Cursor] = []
        marks: list[str] = []
        is_of_block = self._is_of_block[parent] and depth < len(self._ids)
        if is_of_block:
            is_of_block = not self._ranks or token in self._ranks[depth]
            if is_of_block:
                marks.append(BLOCK_SOURCE)
        for idx, n_taken in self._cursors[parent]:
            chain = self._chains[idx]
            if n_taken < len(chain.tokens) and chain.tokens[n_taken] == token:
                cursors.append((idx, n_taken + 1))
                score = max(score, self._scores[parent] + chain.log_probs[n_taken])
                if chain.source not in marks:
                    marks.append(chain.source)
        self._known.add((parent, token))
        self._tokens.append(token)
        self._parents.append(parent)
        self._depths.append(depth + 1)
        self._scores.append(score)
        self._sources.append(tuple(marks))
        self._is_of_block.append(is_of_block)
        self._cursors.append(tuple(cursors))
        return node

    def _push_children(self, node: int, *, skip_first: bool = False) -> None:
        """What each source proposes next; `skip_first` leaves the block's best to `seed`."""
        depth, score = self._depths[node], self._scores[node]
        if depth >= self._max_depth:
            return
        if self._is_of_block[node] and depth < len(self._ids) and not skip_first:
            self._push(score + self._log_probs[depth][0], node, self._ids[depth][0], 0)
        for idx, n_taken in self._cursors[node]:
            chain = self._chains[idx]
            if n_taken < len(chain.tokens):
                self._push(score + chain.log_probs[n_taken], node, chain.tokens[n_taken], -1)

    def _push_sibling(self, parent: int, rank: int) -> None:
        depth, rank = self._depths[parent], rank + 1
        if rank < len(self._ids[depth]):
            score = self._scores[parent] + self._log_probs[depth][rank]
            self._push(score, parent, self._ids[depth][rank], rank)

    def _push(self, score: float, parent: int, token: int, rank: int) -> None:
        heappush(self._heap, (-score, self._n_pushed, parent, token, rank))
        self._n_pushed += 1
