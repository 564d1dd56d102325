"""What the controller chooses when drafts are worthless, perfect and in between."""

from math import log

import pytest

from engine.speculation.controller import Controller
from engine.speculation.costs import StepCosts, assumed_costs
from engine.speculation.draft import ChainDraft, DraftTree
from engine.speculation.tree import build_tree

# A step of 8 rows takes twice, one of 64 nine times as long as one of a single row.
COSTS = {1: 10.0, 2: 11.0, 4: 13.0, 8: 20.0, 16: 32.0, 32: 52.0, 64: 90.0}


def chain(rate: float, n_tokens: int = 63) -> DraftTree:
    tokens = tuple(range(n_tokens))
    return build_tree(0, None, [ChainDraft(tokens, (log(rate),) * n_tokens, "lookup")])


def controller(most_block_rows: int = 0) -> Controller:
    return Controller(StepCosts(COSTS), most_block_rows)


@pytest.mark.parametrize(
    ("rate", "least", "most"),
    [(0.01, 0, 0), (0.05, 0, 0), (0.5, 1, 3), (0.8, 3, 7), (0.999, 50, 63)],
)
def test_the_surer_the_drafts_the_larger_the_tree(rate: float, least: int, most: int) -> None:
    assert least <= controller().choose_size(chain(rate)).n_nodes <= most


def test_the_chosen_size_has_the_best_rate_of_all() -> None:
    for rate in (0.3, 0.6, 0.9, 0.97):
        tree, costs = chain(rate), StepCosts(COSTS)
        choice = controller().choose_size(tree)
        rates = [
            sum(rate**k for k in range(n + 1)) / costs.ms(n + 1) for n in range(tree.n_nodes + 1)
        ]
        assert choice.rate == pytest.approx(max(rates))


def test_a_gain_within_the_estimates_error_is_none() -> None:
    costs = StepCosts({1: 10.0, 2: 10.98, 4: 20.0})
    assert Controller(costs).choose_size(chain(0.1, 1)).n_nodes == 0


def test_costs_that_were_measured_wrong_are_found_out() -> None:
    deciding = Controller(StepCosts({1: 10.0, 64: 640.0}))
    tree, n_tried = chain(0.95), 0
    for _ in range(3000):
        choice = deciding.choose_size(tree)
        n_tried += choice.n_nodes > 0
        n_rows = 1 + choice.n_nodes
        deciding.costs.observe(n_rows, 10.0 + 1.2 * (n_rows - 1))
    assert deciding.choose_size(tree).n_nodes > 5
    assert n_tried > 1000


def test_what_truly_costs_too_much_is_tried_seldom() -> None:
    deciding = Controller(StepCosts({1: 10.0, 64: 640.0}))
    n_tried = 0
    for _ in range(1000):
        n_rows = 1 + deciding.choose_size(chain(0.9)).n_nodes
        n_tried += n_rows > 1
        deciding.costs.observe(n_rows, 10.0 * n_rows)
    assert 0 < n_tried < 20


def test_without_a_drafter_no_block_is_drafted() -> None:
    assert controller().choose_block(1e-9, 64) == 0


def drafted_share(survival: float, n_steps: int, *, draft_ms: float = 4.0) -> float:
    """How often a block is drafted against plain decoding, once that has been learned."""
    deciding = controller(most_block_rows=16)
    n_drafted = 0
    for step in range(2 * n_steps):
        n_rows = deciding.choose_block(1 / 10.0, 64)
        if n_rows:
            n_drafted += step >= n_steps
            deciding.observe_draft(n_rows, draft_ms)
            n_accepted = sum(survival**k > 0.5 for k in range(1, n_rows))
            deciding.observe_block(n_rows - 1, n_accepted, n_nodes=8 if survival else 0)
    return n_drafted / n_steps


def test_a_drafter_that_is_never_right_is_only_probed() -> None:
    assert 0 < drafted_share(0.0, 1000) < 0.05


def test_a_drafter_that_is_right_is_always_asked() -> None:
    assert drafted_share(1.0, 1000) == 1.0


def test_a_drafter_that_becomes_right_is_found_out() -> None:
    deciding = controller(most_block_rows=16)

    def steps(n: int, n_accepted: int) -> int:
        n_drafted = 0
        for _ in range(n):
            if n_rows := deciding.choose_block(1 / 10.0, 64):
                n_drafted += 1
                deciding.observe_draft(n_rows, 4.0)
                deciding.observe_block(n_rows - 1, min(n_accepted, n_rows - 1), 8)
        return n_drafted

    steps(500, 0)
    steps(6000, 15)
    assert steps(100, 15) == 100


def test_no_block_is_drafted_where_another_source_does_better() -> None:
    deciding = controller(most_block_rows=16)
    deciding.observe_draft(16, 4.0)
    assert deciding.choose_block(0.01, 64)
    assert not deciding.choose_block(10.0, 64)


def test_a_block_has_no_more_rows_than_fit() -> None:
    deciding = controller(most_block_rows=16)
    for most_rows in range(64):
        assert deciding.choose_block(1e-6, most_rows) <= most_rows


def test_short_blocks_are_chosen_where_little_is_accepted() -> None:
    deciding = controller(most_block_rows=16)
    for n_rows, ms in ((4, 3.0), (8, 5.0), (12, 7.0), (16, 9.0)):
        deciding.observe_draft(n_rows, ms)
    for _ in range(100):
        deciding.observe_block(15, 2, 8)
    few = deciding.choose_block(0.01, 64)
    for _ in range(100):
        deciding.observe_block(15, 15, 15)
    assert few < deciding.choose_block(0.01, 64) == 16


@pytest.mark.parametrize("budget", [8, 22])
def test_before_steps_are_measured_the_assumed_budget_is_kept_to(budget: int) -> None:
    deciding = Controller(assumed_costs(budget))
    assert deciding.choose_size(chain(0.999)).n_nodes == budget
    deciding.costs.adopt(StepCosts({1: 1.0, 64: 1.2}))
    assert deciding.choose_size(chain(0.999)).n_nodes == 63


def test_a_block_is_foreseen_once_most_steps_have_wanted_one() -> None:
    deciding = controller(most_block_rows=16)
    deciding.observe_draft(16, 4.0)
    assert not deciding.foresee_block(64)
    for _ in range(20):
        wanted = deciding.choose_block(0.01, 64)
    assert deciding.foresee_block(64) == wanted > 0
    assert 0 < deciding.foresee_block(5) <= 5
    assert not deciding.foresee_block(1)
    for _ in range(20):
        deciding.choose_block(10.0, 64)
    assert not deciding.foresee_block(64)
