"""What lookup proposes, and how sure it is of it."""

import numpy as np
import pytest

from engine.speculation.lookup import Lookup, LookupRates


def continues_an_earlier_occurrence(text: list[int], run: list[int]) -> bool:
    """Whether the last token occurred before and `run` followed it there, if need be into itself:
    text that repeats is supposed to go on repeating."""
    whole = text + run
    return any(
        text[start - 1] == text[-1] and whole[start : start + len(run)] == run
        for start in range(1, len(text))
    )


# With few kinds of tokens, long matches would count as copies to be followed across changes.
@pytest.mark.parametrize("n_kinds", [6, 12, 30])
def test_every_proposal_continues_an_earlier_occurrence(n_kinds: int) -> None:
    n_proposed = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        prompt = rng.integers(0, n_kinds, 60).tolist()
        lookup = Lookup(prompt, cursor=len(prompt), room=30)
        text = list(prompt)
        for token in rng.integers(0, n_kinds, 20).tolist():
            lookup.commit([token])
            text.append(token)
            for chain in lookup.propose(3):
                n_proposed += 1
                assert 1 <= len(chain.tokens) == len(chain.log_probs) <= 3
                assert all(log_prob < 0 for log_prob in chain.log_probs)
                assert continues_an_earlier_occurrence(text, list(chain.tokens))
    assert n_proposed > 300


def test_nothing_is_proposed_where_nothing_repeats() -> None:
    lookup = Lookup(list(range(500)), cursor=500, room=10)
    lookup.commit([1000])
    assert lookup.propose(8) == []


def test_a_long_match_is_followed_to_its_end() -> None:
    prompt = list(range(100, 160))
    lookup = Lookup([*prompt, 1], cursor=61, room=30)
    lookup.commit(prompt[:12])
    longest = max(lookup.propose(30), key=lambda chain: sum(chain.log_probs) / len(chain.tokens))
    assert list(longest.tokens) == prompt[12:42]


def test_two_continuations_of_the_same_tokens_are_both_proposed() -> None:
    lookup = Lookup([1, 2, 3, 9, 1, 2, 4, 9, 1], cursor=9, room=5)
    lookup.commit([2])
    assert {chain.tokens[0] for chain in lookup.propose(1)} == {3, 4}


def test_a_control_token_ends_a_run() -> None:
    lookup = Lookup([1, 2, 3, 50, 4, 5, 1], cursor=7, room=5, separators=[50])
    lookup.commit([2])
    assert {chain.tokens for chain in lookup.propose(9)} == {(3,)}


def test_the_text_before_the_cursor_counts_and_not_what_a_prompt_has_after_it() -> None:
    """Prefix, suffix, middle: what is generated follows the prefix."""
    prefix, suffix = [10, 11, 12, 13, 10], [20, 21]
    lookup = Lookup([50, *prefix, 51, *suffix, 52], cursor=6, room=5, separators=[50, 51, 52])
    lookup.commit([11])
    assert (12, 13) in {chain.tokens[:2] for chain in lookup.propose(2)}


def test_a_text_to_be_replaced_is_proposed_from_its_beginning() -> None:
    lookup = Lookup([1, 2], cursor=2, room=30, references=[list(range(30, 50)), [5]])
    lookup.commit([30])
    assert lookup.propose(6)[0].tokens == tuple(range(31, 37))


def test_proposals_grow_surer_while_they_are_right_and_less_sure_while_wrong() -> None:
    rates = LookupRates()

    def sureness(n_right: int, n_wrong: int) -> float:
        for last in [3] * n_right + [99] * n_wrong:
            lookup = Lookup([1, 2, 3, 9, 1], cursor=5, room=5, rates=rates)
            lookup.commit([2])
            lookup.propose(1)
            lookup.commit([last])
            lookup.settle()
        lookup = Lookup([1, 2, 3, 9, 1], cursor=5, room=5, rates=rates)
        lookup.commit([2])
        return lookup.propose(1)[0].log_probs[0]

    first = sureness(0, 0)
    assert sureness(40, 0) > first
    assert sureness(0, 200) < first
