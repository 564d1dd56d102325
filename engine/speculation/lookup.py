"""Drafts copied from the prompt, from reference texts and from what was generated so far.

Costs no model: a step of lookup takes some ten microseconds and proposes nothing where nothing
repeats. How sure it is comes from how often matches of such a length went on the same before.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from engine.speculation.acceptance import MatchRates
from engine.speculation.corpus import SEPARATOR, Corpus, Match
from engine.speculation.draft import ChainDraft
from engine.speculation.edit_pointer import EditPointer

SOURCE = "lookup"
_CONTEXT_TOKENS = 32  # of the text before the cursor, repeated after a prompt that ends elsewhere
_LEAST_COPY_TOKENS = 8  # a match as long as this is a copy to be followed across changes


class LookupRates:
    """What was learned about drafts of each kind, over all requests.

    The guesses are what the engine's tests on source code began to converge to.
    """

    def __init__(self) -> None:
        #                    0    1     2    3    4    5-6  7-9  10-  15-  23-  32-
        self.latest = MatchRates((0.05, 0.15, 0.32, 0.5, 0.6, 0.7, 0.78, 0.86, 0.91, 0.94, 0.96))
        self.other = MatchRates((0.05, 0.08, 0.15, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2))
        self.edit = MatchRates((0.35, 0.6, 0.7, 0.8, 0.83, 0.86, 0.9, 0.92, 0.94, 0.96, 0.97))


class _Proposal(NamedTuple):
    tokens: list[int]
    length: int
    rates: MatchRates


class Lookup:
    """Looks up what may follow, for one request."""

    def __init__(
        self,
        prompt: Sequence[int],
        *,
        cursor: int,
        room: int,
        separators: Sequence[int] = (),
        references: Sequence[Sequence[int]] = (),
        rates: LookupRates | None = None,
    ) -> None:
        """`cursor` is how many of the prompt's tokens precede what is generated in the text
        itself; what a prompt has after them is context. `room` bounds the generated tokens.

        `separators` are ids that end a text. The first of `references` is supposed to be
        rewritten from its beginning.
        """
        ids = np.asarray(prompt, np.int32)
        ids = np.where(np.isin(ids, np.asarray(separators, np.int32)), SEPARATOR, ids)
        texts: list[Sequence[int]] = [*references, ids.tolist()]
        if cursor < len(ids):
            texts.append(ids[max(cursor - _CONTEXT_TOKENS, 0) : cursor].tolist())
        self._corpus = Corpus(texts, room)
        self._pointer = EditPointer(self._corpus, 1 if references else None)
        self._rates = rates or LookupRates()
        self._proposals: list[_Proposal] = []

    def commit(self, tokens: Sequence[int]) -> None:
        """Takes the tokens decided since the last call, and learns from them how sure to be."""
        for proposal in self._proposals:
            n_right = _n_common(proposal.tokens, tokens)
            is_cut_short = n_right == min(len(proposal.tokens), len(tokens))
            proposal.rates.observe(proposal.length, n_right, is_cut_short=is_cut_short)
        self._proposals = []
        self._corpus.append(tokens)

    def propose(self, n_tokens: int) -> list[ChainDraft]:
        """Runs of at most `n_tokens` that may follow the last committed token."""
        matches = self._corpus.matches()
        place = self._pointer.follow()
        if (
            matches
            and (best := matches[-1]).length >= _LEAST_COPY_TOKENS
            and (place is None or place.n_agreed < best.length)
        ):
            self._pointer.jump(int(best.starts[-1]), best.length)
            place = self._pointer.follow()
        found: list[_Proposal] = []
        if place is not None:
            run = self._pointer.run(place.start, n_tokens)
            found.append(_Proposal(run, place.n_agreed, self._rates.edit))
        for (length, start), rates in zip(
            _latest_and_other(self._corpus, matches),
            (self._rates.latest, self._rates.other),
            strict=False,
        ):
            found.append(_Proposal(self._corpus.run(start, n_tokens), length, rates))
        self._proposals = [proposal for proposal in found if proposal.tokens]
        return [
            ChainDraft(tuple(tokens), tuple(rates.log_probs(length, len(tokens))), SOURCE)
            for tokens, length, rates in self._proposals
        ]


def _latest_and_other(corpus: Corpus, matches: list[Match]) -> list[tuple[int, int]]:
    """Length and start of the latest of the longest matches, and of the longest one that goes on
    otherwise."""
    if not matches:
        return []
    latest = int(matches[-1].starts[-1])
    found = [(matches[-1].length, latest)]
    for match in reversed(matches):
        others = corpus.other_starts(match.starts, corpus[latest])
        if len(others):
            found.append((match.length, int(others[-1])))
            break
    return found


def _n_common(left: Sequence[int], right: Sequence[int]) -> int:
    n = 0
    for a, b in zip(left, right, strict=False):
        if a != b:
            break
        n += 1
    return n
