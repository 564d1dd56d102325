"""Which lines a budget is spent on."""

import random

import numpy as np
import pytest

from engine.pflash.selection import (
    DROPPED,
    GAP_TOKENS,
    HEADER_TOKENS,
    MOST_UNIT_LINES,
    ScoredLines,
    choose,
    heads_of,
    units_of,
)

CODE = [
    "import os\n",
    "\n",
    "class Store:\n",
    "    size = 3\n",
    "\n",
    "    def put(self, key):\n",
    "        self.seen.add(key)\n",
    "        return key\n",
    "\n",
    "def main():\n",
    "    pass\n",
]


def scored(lines: list[str], scores: dict[int, float], forced=()) -> ScoredLines:
    values = np.zeros(len(lines), np.float32)
    for line, score in scores.items():
        values[line] = score
    return ScoredLines(lines, np.full(len(lines), 5, np.int32), values, forced)


def kept(spans) -> list[int]:
    return [line for span in spans if span.is_kept for line in range(span.first, span.end)]


def test_units_are_paragraphs_that_end_where_a_block_does():
    assert units_of(CODE) == [(0, 1), (2, 4), (5, 8), (9, 11)]
    long = ["x = 1\n"] * (2 * MOST_UNIT_LINES + 1)
    assert [end - first for first, end in units_of(long)] == [MOST_UNIT_LINES, MOST_UNIT_LINES, 1]
    assert units_of(["    a\n", "b\n", "  c\n"]) == [(0, 1), (1, 3)]
    assert units_of([]) == units_of(["\n"]) == []


def test_heads_are_the_lines_that_open_the_blocks_around_a_line():
    assert heads_of(CODE, 6) == [2, 5]
    assert heads_of(CODE, 9) == []


def test_the_best_unit_comes_with_the_heads_of_its_definition():
    (spans,) = choose([scored(CODE, {6: 1.0})], 5 * 4 + HEADER_TOKENS + GAP_TOKENS)
    assert kept(spans) == [2, 5, 6, 7]


def test_spans_cover_every_line_once_and_say_why():
    segments = [scored(CODE, {6: 1.0, 10: 0.5}, [(0, 1, "imported")]), scored(CODE, {})]
    for spans in choose(segments, 1000):
        assert [line for s in spans for line in range(s.first, s.end)] == list(range(len(CODE)))
        assert {s.reason for s in spans if not s.is_kept} <= {DROPPED}
    first = choose(segments, 1000)[0]
    assert first[0].reason == "imported"
    assert {s.reason for s in first if s.is_kept} == {"imported", "score"}


@pytest.mark.parametrize("seed", range(20))
def test_what_is_kept_fits_the_budget_whatever_the_scores(seed):
    rng = random.Random(seed)
    segments = [
        scored(CODE, {i: rng.random() for i in range(len(CODE))}, [(3, 6, "pinned")])
        for _ in range(5)
    ]
    budget = rng.randint(0, 300)
    chosen = choose(segments, budget)
    assert sum(s.n_tokens for spans in chosen for s in spans if s.is_kept) <= budget


def test_forced_lines_come_before_better_scores():
    budget = 5 + HEADER_TOKENS + GAP_TOKENS
    (spans,) = choose([scored(CODE, {6: 1.0}, [(0, 1, "imported")])], budget)
    assert kept(spans) == [0]


def test_nothing_is_kept_of_what_scores_nothing():
    assert kept(choose([scored(CODE, {})], 1000)[0]) == []
