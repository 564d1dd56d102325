"""Finding earlier occurrences, against a search that compares one token at a time."""

import numpy as np
import pytest

from engine.speculation.corpus import MOST_MATCH, SEPARATOR, Corpus


def matching_length(tokens: list[int], start: int) -> int:
    """How many tokens before `start` equal the latest ones."""
    n = 0
    while n < MOST_MATCH and tokens[start - 1 - n] == tokens[-1 - n] != SEPARATOR:
        n += 1
    return n


@pytest.mark.parametrize("n_kinds", [2, 3, 20])
def test_every_occurrence_is_found_with_its_length(n_kinds: int) -> None:
    for seed in range(30):
        rng = np.random.default_rng(seed)
        texts = [rng.integers(0, n_kinds, n).tolist() for n in (0, 7, 40)]
        corpus = Corpus(texts, room=10)
        corpus.append(grown := rng.integers(0, n_kinds, 5).tolist())
        tokens = [t for text in texts for t in (SEPARATOR, *text)] + grown
        lengths = {s: matching_length(tokens, s) for s in range(1, len(tokens))}
        found = corpus.matches()
        assert [match.length for match in found] == list(range(1, len(found) + 1))
        for match in found:
            expected = [
                s for s, n in lengths.items() if n >= match.length and tokens[s] != SEPARATOR
            ]
            assert match.starts.tolist() == expected
        longest = max((n for s, n in lengths.items() if tokens[s] != SEPARATOR), default=0)
        assert len(found) == longest


def test_matches_may_be_looked_for_in_a_part() -> None:
    corpus = Corpus([[1, 2, 3, 1, 2, 4, 1, 2]], room=0)
    assert [m.starts.tolist() for m in corpus.matches()] == [[3, 6], [3, 6]]
    assert [m.starts.tolist() for m in corpus.matches(4, 9)] == [[6], [6]]
    assert corpus.matches(7, 9) == []


def test_nothing_is_copied_across_the_end_of_a_text() -> None:
    corpus = Corpus([[1, 2], [3, 1, 2]], room=0)
    assert corpus.matches() == []
    assert corpus.run(1, 5) == [1, 2]


def test_the_latest_run_goes_on_with_itself() -> None:
    corpus = Corpus([[7, 1, 2, 1, 2]], room=0)
    start = int(corpus.matches()[-1].starts[-1])
    assert corpus.run(start, 5) == [1, 2, 1, 2, 1]
