"""Which lines a budget is spent on. Knows scores and lines, and no model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from engine.pflash.lines import Floats, Int32s
from engine.request import SelectedSpan

MOST_UNIT_LINES = 12
# What naming a file and marking a gap cost beside the lines, in tokens.
HEADER_TOKENS, GAP_TOKENS = 12, 10
_NEIGHBOUR_SHARE = 0.5
DROPPED = "budget"  # the reason of a span that did not fit


@dataclass(frozen=True)
class ScoredLines:
    """One segment: its lines, the tokens that begin in each and each line's score in 0..1, and the
    line ranges [first, end) that are kept whatever their scores, with a reason each."""

    lines: Sequence[str]
    n_tokens: Int32s
    scores: Floats
    forced: Sequence[tuple[int, int, str]] = ()


@dataclass(frozen=True)
class _Unit:
    score: float
    segment: int
    first: int
    end: int


def choose(segments: Sequence[ScoredLines], budget_tokens: int) -> list[list[SelectedSpan]]:
    """The spans of every segment in order of lines, kept or not.

    Forced lines come first, then whole units of the best scores, each with the heads of the
    definitions it lies in, as long as they fit.
    """
    reasons = [dict[int, str]() for _ in segments]  # why each kept line is kept
    left = budget_tokens

    def take(i: int, lines: Sequence[int], reason: str) -> bool:
        nonlocal left
        new = [line for line in lines if line not in reasons[i]]
        if not new:
            return True
        overhead = GAP_TOKENS + (0 if reasons[i] else HEADER_TOKENS)
        cost = int(segments[i].n_tokens[new].sum()) + overhead
        if cost > left:
            return False
        left -= cost
        reasons[i].update(dict.fromkeys(new, reason))
        return True

    for i, segment in enumerate(segments):
        for first, end, reason in segment.forced:
            take(i, range(first, min(end, len(segment.lines))), reason)
    # Earlier segments win among equals: the caller's order is its own ranking.
    for unit in sorted(_units(segments), key=lambda unit: -unit.score):
        if unit.score <= 0:
            break
        lines = segments[unit.segment].lines
        whole = [*heads_of(lines, unit.first), *range(unit.first, unit.end)]
        # What does not fit with its heads may fit alone; smaller units may fit after it.
        if not take(unit.segment, whole, "score"):
            take(unit.segment, range(unit.first, unit.end), "score")
    return [_spans(*pair) for pair in zip(segments, reasons, strict=True)]


def units_of(lines: Sequence[str]) -> list[tuple[int, int]]:
    """Cuts lines into runs [first, end) that are kept or dropped together: paragraphs, at most
    MOST_UNIT_LINES long, that also end where the indentation falls back to a definition's."""
    units: list[tuple[int, int]] = []
    first: int | None = None
    for i, line in enumerate(lines):
        if not line.strip():
            if first is not None:
                units.append((first, i))
            first = None
            continue
        if first is not None and (
            i - first >= MOST_UNIT_LINES or _indent(line) < _indent(lines[first])
        ):
            units.append((first, i))
            first = None
        first = i if first is None else first
    if first is not None:
        units.append((first, len(lines)))
    return units


def heads_of(lines: Sequence[str], line: int) -> list[int]:
    """The lines that open the blocks `line` lies in, outermost first, by indentation alone."""
    heads: list[int] = []
    indent = _indent(lines[line])
    for i in range(line - 1, -1, -1):
        if indent == 0:
            break
        if lines[i].strip() and _indent(lines[i]) < indent:
            indent = _indent(lines[i])
            if lines[i].strip()[0].isalnum() or lines[i].strip()[0] in "_@<":
                heads.append(i)
    return heads[::-1]


def smoothed(scores: Floats) -> Floats:
    """Each line's score, or half of a neighbour's where that is more."""
    padded = np.pad(scores, 1)
    return np.maximum(scores, _NEIGHBOUR_SHARE * np.maximum(padded[:-2], padded[2:]))


def _units(segments: Sequence[ScoredLines]) -> list[_Unit]:
    units: list[_Unit] = []
    for i, segment in enumerate(segments):
        scores = smoothed(segment.scores)
        for first, end in units_of(segment.lines):
            units.append(_Unit(float(scores[first:end].max()), i, first, end))
    return units


def _spans(segment: ScoredLines, reasons: Mapping[int, str]) -> list[SelectedSpan]:
    """Neighbouring lines of one reason are one span; lines without a reason were dropped."""
    spans: list[SelectedSpan] = []
    for reason, lines in groupby(range(len(segment.lines)), reasons.get):
        numbers = list(lines)
        first, end = numbers[0], numbers[-1] + 1
        n_tokens = int(segment.n_tokens[first:end].sum())
        score = float(segment.scores[first:end].max())
        spans.append(
            SelectedSpan(first, end, n_tokens, score, reason is not None, reason or DROPPED)
        )
    return spans


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
