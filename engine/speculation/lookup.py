"""Drafts copied from the prompt, from reference texts and from what was generated so far.

Costs no model: a step of lookup takes some ten microseconds and proposes nothing where nothing
repeats. How sure it is comes from how often matches of such a length went on the same before.
"""

from collections.abc import Sequence
from math import inf
from typing import NamedTuple

import numpy as np

from engine.speculation.acceptance import MatchRates
from engine.speculation.corpus import SEPARATOR, Corpus, Occurrences, n_common
from engine.speculation.draft import ChainDraft
from engine.speculation.edit_pointer import EditPointer

SOURCE = "lookup"
_CONTEXT_TOKENS = 32  # of the text before the cursor, repeated after a prompt that ends elsewhere
_LEAST_COPY_TOKENS = 8  # a match as long as this is a copy to be followed across changes


class LookupRates:
    """What was learned about drafts of each kind, over all requests.

    The guesses are the shares found in 250 files of Python, C and JavaScript, 200 tokens each.
    """

    def __init__(self) -> None:
        # By the length of the match: 0  1  2  3  4  5-6  7-9  10-14  15-22  23-31  32 and more.
        self.latest = MatchRates((0.05, 0.34, 0.53, 0.6, 0.68, 0.71, 0.76, 0.8, 0.87, 0.91, 0.94))
        self.other = MatchRates((0.05, 0.12, 0.13, 0.18, 0.15, 0.15, 0.12, 0.1, 0.15, 0.2, 0.2))
        self.edit = MatchRates((0.25, 0.52, 0.72, 0.78, 0.82, 0.84, 0.82, 0.84, 0.88, 0.92, 0.95))


class _Proposal(NamedTuple):
    tokens: list[int]
    log_probs: list[float]
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
        # Those before, and what was decided instead.
        self._judged: list[_Proposal] = []
        self._decided: Sequence[int] = ()

    def commit(self, tokens: Sequence[int]) -> None:
        """Takes the tokens decided since the last call."""
        self.settle()
        self._judged, self._proposals, self._decided = self._proposals, [], tokens
        self._corpus.append(tokens)

    def settle(self) -> None:
        """Learns from the tokens taken last how sure to be, unless that was done."""
        judged, self._judged, tokens = self._judged, [], self._decided
        for proposal in judged:
            n_right = n_common(proposal.tokens, tokens)
            is_cut_short = n_right == min(len(proposal.tokens), len(tokens))
            proposal.rates.observe(proposal.length, n_right, is_cut_short=is_cut_short)

    def propose(self, n_tokens: int, least_log_prob: float = -inf) -> list[ChainDraft]:
        """Runs of at most `n_tokens` that may follow the last committed token, as far as all of a
        run is at least so likely."""
        seen = self._corpus.find()
        place = self._pointer.follow()
        if (
            seen is not None
            and seen.length >= _LEAST_COPY_TOKENS
            and (place is None or place.n_agreed < seen.length)
        ):
            self._pointer.jump(seen.latest, seen.length)
            place = self._pointer.follow()
        found: list[_Proposal] = []
        if place is not None:
            log_probs = self._rates.edit.log_probs(place.n_agreed, n_tokens, least_log_prob)
            run = self._pointer.run(place.start, len(log_probs))
            found.append(_Proposal(run, log_probs, place.n_agreed, self._rates.edit))
        for length, start, rates in self._runs_of(seen):
            log_probs = rates.log_probs(length, n_tokens, least_log_prob)
            run = self._corpus.run(start, len(log_probs))
            found.append(_Proposal(run, log_probs, length, rates))
        self._proposals = [proposal for proposal in found if proposal.tokens]
        return [
            ChainDraft(tuple(tokens), tuple(log_probs[: len(tokens)]), SOURCE)
            for tokens, log_probs, _, _ in self._proposals
        ]

    def _runs_of(self, seen: Occurrences | None) -> list[tuple[int, int, MatchRates]]:
        """Length and start of the latest of the longest occurrences, and of the longest one that
        goes on otherwise."""
        if seen is None:
            return []
        runs = [(seen.length, seen.latest, self._rates.latest)]
        if seen.other_length:
            runs.append((seen.other_length, seen.other, self._rates.other))
        return runs
