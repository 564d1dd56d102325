"""Finding earlier occurrences, against a search that compares one token at a time."""

import numpy as np
import pytest

from engine import _native
from engine.errors import NativeError
from engine.speculation.corpus import MOST_MATCH, SEPARATOR, Corpus


def matching_length(tokens: list[int], start: int) -> int:
    """How many tokens before `start` equal the latest ones."""
    n = 0
    while n < MOST_MATCH and tokens[start - 1 - n] == tokens[-1 - n] != SEPARATOR:
        n += 1
    return n


@pytest.mark.parametrize("n_kinds", [2, 3, 20])
def test_the_longest_occurrences_are_found(n_kinds: int) -> None:
    for seed in range(60):
        rng = np.random.default_rng(seed)
        texts = [rng.integers(0, n_kinds, n).tolist() for n in (0, 7, 40)]
        corpus = Corpus(texts, room=10)
        corpus.append(grown := rng.integers(0, n_kinds, 5).tolist())
        tokens = [t for text in texts for t in (SEPARATOR, *text)] + grown
        lengths = {s: matching_length(tokens, s) for s in range(1, len(tokens))}
        lengths = {s: n for s, n in lengths.items() if n and tokens[s] != SEPARATOR}
        near = int(rng.integers(len(tokens)))
        found = corpus.find(near=near)
        if not lengths:
            assert found is None
            continue
        longest = max(lengths.values())
        starts = [s for s, n in lengths.items() if n == longest]
        others = [(n, s) for s, n in lengths.items() if tokens[s] != tokens[starts[-1]]]
        nearest = min(starts, key=lambda s: abs(s - near))
        assert found == (longest, starts[-1], nearest, *max(others, default=(0, 0)))


def test_occurrences_may_be_looked_for_in_a_part() -> None:
    corpus = Corpus([[1, 2, 3, 1, 2, 4, 1, 2]], room=0)
    assert corpus.find() == (2, 6, 3, 2, 3)
    assert corpus.find(near=5) == (2, 6, 6, 2, 3)
    assert corpus.find(4, 9) == (2, 6, 6, 0, 0)
    assert corpus.find(7, 9) is None


def test_nothing_is_copied_across_the_end_of_a_text() -> None:
    corpus = Corpus([[1, 2], [3, 1, 2]], room=0)
    assert corpus.find() is None
    assert corpus.run(1, 5) == [1, 2]


def test_the_latest_run_goes_on_with_itself() -> None:
    corpus = Corpus([[7, 1, 2, 1, 2]], room=0)
    found = corpus.find()
    assert found is not None
    assert corpus.run(found.latest, 5) == [1, 2, 1, 2, 1]


def test_native_code_reads_no_further_than_there_are_tokens() -> None:
    ids = np.array([SEPARATOR, 1, 1], np.int32)
    for n, low in ((4, 0), (0, 0), (3, -1)):
        with pytest.raises(NativeError, match="find_occurrences"):
            _native.find_occurrences(ids, n, low, 9, 0, 32)
    with pytest.raises(NativeError, match="begin with a separator"):
        _native.find_occurrences(ids[1:], 2, 0, 9, 0, 32)
