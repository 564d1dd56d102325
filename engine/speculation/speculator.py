"""Drafts for one request: asks the sources the controller chooses, and keeps count of it all.

Plain decoding is a speculator without sources.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import inf, log
from time import perf_counter
from typing import NamedTuple

from engine.config import MOST_TREE_NODES, SpeculationMode
from engine.errors import RequestError
from engine.request import SourceCounts, SpeculationReport
from engine.session import Session
from engine.speculation.calibration import BlockCalibration
from engine.speculation.controller import Controller
from engine.speculation.costs import StepCosts
from engine.speculation.draft import BlockDraft, Drafter, DraftTree
from engine.speculation.lookup import Lookup, LookupRates
from engine.speculation.tree import BLOCK_SOURCE, build_tree

LOOKUP_MODES = ("auto", "lookup")
_LEAST_LOG_PROB = log(0.02)  # a row costs more than this of a step, and would never be chosen


@dataclass
class _Step:
    """A step that was taken; `decided` are the tokens after its root, once they are known."""

    tree: DraftTree
    path: Sequence[int]
    verify_ms: float
    commit_ms: float
    block: BlockDraft | None
    decided: Sequence[int] = ()


class _Begun(NamedTuple):
    """A block being drafted: what waits for it, and the milliseconds that beginning it took."""

    read: Callable[[], BlockDraft]
    n_rows: int
    ms: float


@dataclass
class _Counts:
    proposed: Counter[str] = field(default_factory=Counter[str])
    accepted: Counter[str] = field(default_factory=Counter[str])
    accepted_lengths: Counter[int] = field(default_factory=Counter[int])
    tree_sizes: Counter[int] = field(default_factory=Counter[int])
    draft_ms: float = 0.0
    verify_ms: float = 0.0
    commit_ms: float = 0.0


class Speculator:
    """Grows the tree of each step. `draft`, then `observe` what became of it, step by step.

    What is learned from a step can wait until the model computes the next one: for `settle`."""

    def __init__(
        self,
        controller: Controller,
        calibration: BlockCalibration,
        *,
        mode: SpeculationMode = "off",
        lookup: Lookup | None = None,
        drafter: Drafter | None = None,
        tree_budget: int | None = None,
    ) -> None:
        """`controller` and `calibration` are shared by all requests. A `tree_budget` is used to
        the full in every step; without one the controller chooses."""
        self._controller = controller
        self._calibration = calibration
        self._mode: SpeculationMode = mode
        self._lookup = lookup
        self._drafter = drafter
        self._tree_budget = tree_budget
        self._block: BlockDraft | None = None
        self._below: _Begun | None = None  # the step under way
        self._last: _Step | None = None
        self._n_seen = 0
        self._counts = _Counts()

    def draft(
        self,
        session: Session,
        decided: Sequence[int],
        max_depth: int,
        meanwhile: Callable[[], bool] = lambda: True,
    ) -> DraftTree:
        """The tree whose root is the last of all tokens `decided` so far.

        Drafts deeper than `max_depth` are of no use. `meanwhile` is done when a block of drafts is
        under way, or else first; where it says that nothing follows, nothing is drafted. Raises
        StepCancelled.
        """
        started = perf_counter()
        new = decided[self._n_seen :]
        self._n_seen, self._block = len(decided), None
        if self._last is not None:
            self._last.decided = new
        tree = DraftTree.of_root(decided[-1])
        n_most = min(session.n_free - 1, MOST_TREE_NODES)
        max_depth = min(max_depth, n_most)
        has_room = max_depth > 0 and (self._lookup or self._drafter)
        most_rows = self._most_block_rows(max_depth) if has_room else 0
        n_foreseen = self._foreseen_rows(most_rows)
        begun, self._below = self._below, None
        if begun is None and n_foreseen:
            begun = self._begin_block(session, decided[-1], n_foreseen)
        if self._lookup is not None:
            self._lookup.commit(new)
        if meanwhile() and has_room:
            tree = self._grow(session, tree, begun, n_most, max_depth)
        self._counts.draft_ms += _ms_since(started)
        return tree

    def observe(
        self, tree: DraftTree, path: Sequence[int], verify_ms: float, commit_ms: float
    ) -> None:
        """The step of `tree` accepted the rows of `path` and took so long."""
        self.settle()
        self._last = _Step(tree, path, verify_ms, commit_ms, self._block)

    def settle(self) -> None:
        """Counts the step observed last and learns from it, unless that was done."""
        if self._lookup is not None:
            self._lookup.settle()
        step, self._last = self._last, None
        if step is None:
            return
        counts, tree, block = self._counts, step.tree, step.block
        for sources in tree.sources:
            counts.proposed.update(sources)
        for row in step.path:
            counts.accepted.update(tree.sources[row])
        counts.accepted_lengths[len(step.path) - 1] += 1
        counts.tree_sizes[tree.n_nodes] += 1
        counts.verify_ms += step.verify_ms
        counts.commit_ms += step.commit_ms
        self._controller.costs.observe(len(tree.tokens), step.verify_ms)
        if block is not None:
            self._calibration.observe(block, step.decided)
            n_of_block = sum(BLOCK_SOURCE in tree.sources[row] for row in step.path)
            self._controller.observe_block(len(block.ids), n_of_block, tree.n_nodes)
        self._controller.look_ahead()

    def look_ahead(self, session: Session, *, is_greedy: bool) -> None:
        """Uses the time of a step under way: learns from the one before and, where the step is
        decided greedily, begins to draft below it."""
        self.settle()
        n_rows = self._foreseen_rows(self._most_block_rows(MOST_TREE_NODES))
        if not is_greedy or not n_rows:
            return
        assert self._drafter is not None
        read = self._drafter.begin_below(session, n_rows)
        # It takes no time but that of waiting for it.
        self._below = None if read is None else _Begun(read, n_rows, 0.0)

    def report(self, n_tokens: int, decode_ms: float) -> SpeculationReport:
        """Everything counted, for a request that decided `n_tokens` in `decode_ms`."""
        self.settle()
        counts = self._counts
        n_steps = counts.accepted_lengths.total()
        n_by_steps = n_steps + sum(n * count for n, count in counts.accepted_lengths.items())
        model_ms = counts.draft_ms + counts.verify_ms + counts.commit_ms
        host_ms = max(decode_ms - model_ms, 0.0)
        return SpeculationReport(
            mode=self._mode,
            steps=n_steps,
            acceptance_length=n_by_steps / n_steps if n_steps else 0.0,
            by_source={
                source: SourceCounts(proposed=n, accepted=counts.accepted[source])
                for source, n in counts.proposed.items()
            },
            accepted_lengths=_histogram(counts.accepted_lengths),
            tree_sizes=_histogram(counts.tree_sizes),
            draft_ms=counts.draft_ms,
            verify_ms=counts.verify_ms,
            commit_ms=counts.commit_ms,
            host_ms=host_ms,
            plain_ms=max(n_tokens - 1, 0) * self._controller.costs.ms(1) + host_ms,
        )

    def _grow(
        self, session: Session, root: DraftTree, begun: _Begun | None, n_most: int, max_depth: int
    ) -> DraftTree:
        token, most_rows = root.tokens[0], self._most_block_rows(max_depth)
        least = -inf if self._tree_budget else _LEAST_LOG_PROB
        chains = [] if self._lookup is None else self._lookup.propose(max_depth, least)
        budget = min(self._tree_budget or n_most, n_most)
        costs = None if self._tree_budget else self._controller.costs
        grow = partial(build_tree, budget=budget, max_depth=max_depth, costs=costs)
        tree = grow(token, None, chains) if chains else root
        choice = self._controller.choose_size(tree)
        if n_rows := self._block_rows(choice.rate, most_rows):
            block = self._read_block(begun or self._begin_block(session, token, n_rows))
            tree = grow(token, block, chains)
            choice = self._controller.choose_size(tree)
        return tree if self._tree_budget else tree.cut(choice.n_nodes)

    def _most_block_rows(self, max_depth: int) -> int:
        return 0 if self._drafter is None else min(max_depth + 1, self._drafter.block_rows)

    def _foreseen_rows(self, most_rows: int) -> int:
        """Rows of a block that may be drafted while the host does something else; 0 for none."""
        if most_rows == 0 or self._drafter is None or not self._drafter.is_concurrent:
            return 0
        return most_rows if self._tree_budget else self._controller.foresee_block(most_rows)

    def _block_rows(self, rate: float, most_rows: int) -> int:
        """Rows of the block to draft where `rate` is to be had without one; 0 for none."""
        return most_rows if self._tree_budget else self._controller.choose_block(rate, most_rows)

    def _begin_block(self, session: Session, token: int, n_rows: int) -> _Begun:
        assert self._drafter is not None
        started = perf_counter()
        read = self._drafter.begin(session, token, n_rows)
        return _Begun(read, n_rows, _ms_since(started))

    def _read_block(self, begun: _Begun) -> BlockDraft:
        """The drafter's block, its probabilities corrected by experience. What it takes is what
        the host does for it and waits."""
        started = perf_counter()
        self._block = begun.read()
        self._controller.observe_draft(begun.n_rows, begun.ms + _ms_since(started))
        return self._calibration.corrected(self._block)


def _histogram(counts: Mapping[int, int]) -> list[int]:
    return [counts.get(n, 0) for n in range(max(counts, default=-1) + 1)]


def _ms_since(started: float) -> float:
    return (perf_counter() - started) * 1000


class Speculation:
    """What outlives a request: the sources, what was learned about them, and what steps cost."""

    def __init__(
        self,
        mode: SpeculationMode,
        costs: StepCosts,
        drafter: Drafter | None = None,
        tree_budget: int | None = None,
    ) -> None:
        """`mode` is that of requests which name none. Raises RequestError if it needs a drafter and
        there is none."""
        self._mode: SpeculationMode = mode
        self._drafter = None if mode == "off" else drafter
        self._tree_budget = tree_budget
        self._controller = Controller(costs, self._drafter.block_rows if self._drafter else 0)
        self._calibration = BlockCalibration()
        self.lookup_rates = LookupRates()
        self.mode_of(None)

    def adopt(self, costs: StepCosts, draft_ms: Mapping[int, float]) -> None:
        """Goes by measured costs from now on, of steps and of blocks of drafts."""
        self._controller.costs.adopt(costs)
        for n_rows, ms in draft_ms.items():
            self._controller.observe_draft(n_rows, ms)

    def mode_of(self, requested: SpeculationMode | None) -> SpeculationMode:
        """Who drafts for a request: nobody at all if the model was loaded that way."""
        mode = requested if requested is not None and self._mode != "off" else self._mode
        if mode == "dflash" and self._drafter is None:
            raise RequestError(
                "speculation 'dflash' needs a drafter and none is known for this model, expected "
                "one named by --drafter, or speculation 'auto'"
            )
        return mode

    def begin(self, mode: SpeculationMode, lookup: Lookup | None) -> Speculator:
        """The speculator of one request; `lookup` is for LOOKUP_MODES only."""
        return Speculator(
            self._controller,
            self._calibration,
            mode=mode,
            lookup=lookup,
            drafter=self._drafter if mode in ("auto", "dflash") else None,
            tree_budget=self._tree_budget,
        )
