"""Running shares: begun with a guess, moved by what happens, forgetting slowly."""

from math import exp

import pytest

from engine.speculation.acceptance import MatchRates, RunningRates

GUESSES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95)


def test_a_share_begins_with_the_guess_and_approaches_what_happens() -> None:
    rates = RunningRates((0.5, 0.5))
    assert rates.rate(0) == 0.5
    for _ in range(100):
        rates.add(0, 4, 1)
    assert rates.rate(0) == pytest.approx(0.25, abs=0.01)
    assert rates.rate(1) == 0.5


def test_what_happened_long_ago_counts_little() -> None:
    rates = RunningRates((0.5,))
    for is_hit in [0] * 1000 + [1] * 300:
        rates.add(0, 1, is_hit)
    assert rates.rate(0) > 0.85


def test_a_run_grows_surer_as_its_match_grows_longer() -> None:
    rates = MatchRates(GUESSES)
    log_probs = rates.log_probs(1, 60)
    assert len(log_probs) == 60
    assert log_probs == sorted(log_probs)
    assert exp(log_probs[0]) == pytest.approx(0.2)
    assert exp(log_probs[-1]) == pytest.approx(0.95)


@pytest.mark.parametrize("length", [0, 1, 4, 12, 32, 500])
def test_only_what_was_judged_is_learned(length: int) -> None:
    rates, untouched = MatchRates(GUESSES), MatchRates(GUESSES)
    rates.observe(length, 0, is_cut_short=True)
    assert rates.log_probs(0, 40) == untouched.log_probs(0, 40)
    rates.observe(length, 2, is_cut_short=False)
    before, after = untouched.log_probs(length, 9), rates.log_probs(length, 9)
    assert after != before
    wrong = MatchRates(GUESSES)
    wrong.observe(length, 0, is_cut_short=False)
    assert wrong.log_probs(length, 1)[0] < before[0]


def test_a_run_ends_where_it_becomes_too_unlikely() -> None:
    rates = MatchRates(GUESSES)
    every = rates.log_probs(1, 60)
    for least in (-0.5, -2.0, -5.0):
        some = rates.log_probs(1, 60, least)
        assert some == every[: len(some)]
        assert len(some) == 1 or sum(some) >= least
        assert sum(every[: len(some) + 1]) < least
