"""What a step drafts: who is asked, and how many drafts are verified.

Maximizes expected tokens per millisecond (SPEC B.8): what sources are worth comes from their
running acceptance, what a step costs from this machine. Lives as long as the model.
"""

from itertools import accumulate
from math import ceil
from typing import NamedTuple

from engine.speculation.costs import StepCosts
from engine.speculation.draft import DraftTree
from engine.speculation.tree import best_size

_LEAST_GAIN = 1.03  # over plain decoding, or the estimate's own error decides
_PROMISING_TOKENS, _REFUSED_STEPS, _TRIED_NODES = 2.0, 64, 7
_PROBE_SHARE = 0.01  # of the time may go into finding out whether drafting has begun to pay
_LEAST_PROBE_STEPS, _MOST_PROBE_STEPS = 8, 256
BLOCK_ROWS = (4, 8, 12, 16)  # as drafters are trained; and few rows where little is accepted
_GUESSED_SURVIVAL = 0.65  # of a path from depth to depth, until there is experience
_GUESSED_DRAFT_SHARE = 0.4  # of a plain step, until the first draft
_LEARNING_RATE = 0.1
_LEAST_WANTED_SHARE = 0.5  # of blocks, for them to be begun before it is known whether they are


class Choice(NamedTuple):
    """How many of a tree's nodes to verify, and the tokens per millisecond to expect."""

    n_nodes: int
    rate: float


class _Block(NamedTuple):
    n_rows: int
    n_tokens: float  # that a step decides with it
    ms: float


class Controller:
    """Decides for all requests of one model, and learns from all of them."""

    def __init__(self, costs: StepCosts, most_block_rows: int = 0) -> None:
        """`most_block_rows` is the drafter's; 0 where there is none."""
        self.costs = costs
        self._options = [n for n in BLOCK_ROWS if n <= most_block_rows]
        if most_block_rows > 1 and most_block_rows not in self._options:
            self._options.append(most_block_rows)
        self._draft_ms: dict[int, float] = {}
        n_depths = max(self._options, default=1)
        self._survival = [_GUESSED_SURVIVAL**depth for depth in range(n_depths)]
        self._best_blocks: dict[int, _Block | None] = {}  # by most rows
        self._n_nodes = 8.0  # verified after a block was drafted
        # How often a block is wanted after a step that wanted none, and after one that did.
        self._wanted_after, self._was_wanted = [0.0, 0.0], False
        self._n_undrafted = 0
        self._n_refused = 0

    def choose_size(self, tree: DraftTree) -> Choice:
        """The number of nodes with the most expected tokens per millisecond of verifying.

        Trees that promise much and yet cost too much are tried now and then: the costs may be
        mistaken, and only real steps correct them.
        """
        costs = self.costs
        n_best, rate, plain_rate, n_expected = best_size(tree, costs)
        if rate > _LEAST_GAIN * plain_rate:
            return Choice(n_best, rate)
        if n_expected >= _PROMISING_TOKENS:
            self._n_refused += 1
            if self._n_refused % _REFUSED_STEPS == 0:
                return Choice(min(_TRIED_NODES, tree.n_nodes, costs.most_rows - 1), plain_rate)
        return Choice(0, plain_rate)

    def choose_block(self, rate: float, most_rows: int) -> int:
        """Rows of the block to draft, 0 for none, where `rate` tokens per millisecond are to be had
        without one."""
        block = self._best_block(most_rows)
        if block is None:
            return 0
        is_better = block.n_tokens / block.ms > rate
        share = self._wanted_after[self._was_wanted]
        self._wanted_after[self._was_wanted] = share + _LEARNING_RATE * (is_better - share)
        self._was_wanted = is_better
        if is_better:
            return block.n_rows
        lost_ms = block.ms - block.n_tokens / rate
        wait = ceil(lost_ms / (_PROBE_SHARE * self.costs.ms(1)))
        self._n_undrafted += 1
        is_time = self._n_undrafted >= min(max(wait, _LEAST_PROBE_STEPS), _MOST_PROBE_STEPS)
        return block.n_rows if is_time else 0

    def foresee_block(self, most_rows: int) -> int:
        """Rows of the block to begin before it is known what is to be had without one; 0 where most
        are not wanted in the end."""
        block = self._best_block(most_rows)
        is_likely = self._wanted_after[self._was_wanted] >= _LEAST_WANTED_SHARE
        return block.n_rows if block is not None and is_likely else 0

    def look_ahead(self) -> None:
        """Finds out what the next step will ask for, of what has been observed by now."""
        self._best_blocks.clear()
        self._best_block(max(self._options, default=0))

    def _best_block(self, most_rows: int) -> _Block | None:
        """The size of block with the most tokens per millisecond of drafting and verifying."""
        if most_rows not in self._best_blocks:
            self._best_blocks[most_rows] = self._find_best_block(most_rows)
        return self._best_blocks[most_rows]

    def _find_best_block(self, most_rows: int) -> _Block | None:
        verify_ms = self.costs.ms(1 + round(self._n_nodes))
        tokens = [0.0, *accumulate(self._survival)]
        blocks = [
            _Block(n, tokens[n], self.draft_ms(n) + verify_ms)
            for n in self._options
            if n <= most_rows
        ]
        return max(blocks, key=lambda block: block.n_tokens / block.ms, default=None)

    def draft_ms(self, n_rows: int) -> float:
        """What drafting a block takes; of an untried number of rows, what the nearest one does."""
        if not self._draft_ms:
            return _GUESSED_DRAFT_SHARE * self.costs.ms(1)
        if n_rows in self._draft_ms:
            return self._draft_ms[n_rows]
        return self._draft_ms[min(self._draft_ms, key=lambda tried: abs(tried - n_rows))]

    def observe_draft(self, n_rows: int, ms: float) -> None:
        """A block of `n_rows` was drafted in `ms`."""
        self._best_blocks.clear()
        self._n_undrafted = 0
        known = self._draft_ms.get(n_rows, ms)
        self._draft_ms[n_rows] = known + _LEARNING_RATE * (min(ms, 2 * known) - known)

    def observe_block(self, n_depths: int, n_accepted: int, n_nodes: int) -> None:
        """Of a block of `n_depths`, `n_accepted` were accepted from a tree of `n_nodes`."""
        self._best_blocks.clear()
        survival = self._survival
        for depth in range(1, min(n_depths + 1, len(survival))):
            survival[depth] += _LEARNING_RATE * ((n_accepted >= depth) - survival[depth])
        for depth in range(n_depths + 1, len(survival)):
            survival[depth] = min(survival[depth], survival[depth - 1])
        self._n_nodes += _LEARNING_RATE * (n_nodes - self._n_nodes)
