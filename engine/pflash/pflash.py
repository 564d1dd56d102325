"""PFlash: scores segments against the end of a text and chooses their lines (SPEC C)."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from time import monotonic

import numpy as np

from engine.pflash.key_store import KeyStore
from engine.pflash.lines import (
    Floats,
    Int32s,
    counts_of_lines,
    lines_of_tokens,
    shares_of_lines,
    split_lines,
)
from engine.pflash.scorer import SEGMENT_TOKENS, Halves, Scorer
from engine.pflash.selection import GAP_TOKENS, HEADER_TOKENS, ScoredLines, choose
from engine.request import Segment, Selection, SelectRequest
from engine.tokenizer import Tokenizer

# Rows of the query that ask, and the tokens before them that they are computed with.
QUERY_ROWS, QUERY_TOKENS = 64, 320
# The first tokens of a sequence draw attention whatever they are.
_SINK_TOKENS = 4
_MOST_TEXTS = 8192
_PULL_TOKENS = 16
# A segment the caller expects all of counts this much more than one it expects nothing of.
_PRIOR_WORTH = 0.5


@dataclass(frozen=True)
class _Text:
    """A segment as the scorer and the target see it. `lines_of_ids` (tokens scored) says in which
    line each of the scorer's tokens begins; `n_tokens` (lines) counts the target's."""

    name: str
    ids: list[int]
    n_header: int
    lines: list[str]
    lines_of_ids: Int32s
    n_tokens: Int32s


class PFlash:
    """Selections for one target; used by the thread that owns the model.

    `tokenizer` is the target's; the scorer may have another, scores meet it line by line.
    """

    def __init__(self, scorer: Scorer, tokenizer: Tokenizer, store: KeyStore) -> None:
        self.scorer, self.store = scorer, store
        self._tokenizer = tokenizer
        self._is_shared = scorer.tokenizer is tokenizer
        self._texts: OrderedDict[str, _Text] = OrderedDict()

    def select(self, request: SelectRequest) -> Selection:
        """Raises StepCancelled; keys that were found by then stay for the next time."""
        started = monotonic()
        texts = [self._text(segment) for segment in request.segments]
        result = Selection(
            spans=[],
            total_tokens=sum(int(text.n_tokens.sum()) for text in texts),
            scorer=f"{request.scorer} {self.scorer.name}",
            n_segments=len(texts),
        )
        timings = {"tokenize": _ms_since(started)}
        result.milliseconds = timings
        shares: list[Floats] = []
        if texts and request.query.strip():
            score = self._score_joint if request.scorer == "joint" else self._score_incremental
            shares = score(texts, request, result)
        began = monotonic()
        self._choose(texts, shares, request, result)
        timings["select"] = _ms_since(began)
        timings["total"] = _ms_since(started)
        return result

    # ---- scores: per layer the shares of each text's tokens, (layers, tokens of all texts) ----

    def _score_incremental(
        self, texts: list[_Text], request: SelectRequest, result: Selection
    ) -> list[Floats]:
        began = monotonic()
        keys = [self._keys_of(text, result) for text in texts]
        result.milliseconds["keys"] = _ms_since(began)
        began = monotonic()
        ids = self._query_ids(request)
        result.n_tokens_run += len(ids)
        probed = self.scorer.probe(ids, min(QUERY_ROWS, len(ids)))
        result.milliseconds["query"] = _ms_since(began)
        began = monotonic()
        shares = self.scorer.shares(probed.queries, [*keys, probed.keys[_SINK_TOKENS:]])
        result.milliseconds["attention"] = _ms_since(began)
        return shares

    def _score_joint(
        self, texts: list[_Text], request: SelectRequest, result: Selection
    ) -> list[Floats]:
        began = monotonic()
        query = self._query_ids(request)
        ids = [id for text in texts for id in text.ids] + query
        result.n_tokens_run += len(ids)
        probed = self.scorer.probe(ids, min(QUERY_ROWS, len(query)), request.alpha)
        result.milliseconds["keys"] = _ms_since(began)
        began = monotonic()
        keys: list[Halves] = []
        start = 0
        for text in texts:
            keys.append(probed.keys[start + text.n_header : start + len(text.ids)])
            start += len(text.ids)
        shares = self.scorer.shares(probed.queries, [*keys, probed.keys[start:]])
        result.milliseconds["attention"] = _ms_since(began)
        return shares

    def _query_ids(self, request: SelectRequest) -> list[int]:
        return self.scorer.tokenizer.encode(request.query[-8 * QUERY_TOKENS :])[-QUERY_TOKENS:]

    def _keys_of(self, text: _Text, result: Selection) -> Halves:
        n_scored = len(text.ids) - text.n_header
        keys = self.store.get(text.name, self.scorer.key_shape(n_scored))
        if keys is not None:
            result.n_reused += 1
            return keys
        result.n_tokens_run += len(text.ids)
        keys = self.scorer.probe(text.ids).keys[text.n_header :].copy()
        self.store.put(text.name, keys)
        return keys

    # ---- choosing ----

    def _choose(
        self,
        texts: list[_Text],
        shares: list[Floats],
        request: SelectRequest,
        result: Selection,
    ) -> None:
        priors = [segment.prior for segment in request.segments]
        scores = self._line_scores(texts, shares, priors)
        n_scored = sum(len(text.lines_of_ids) for text in texts)
        result.pull = _pull(shares[-1], n_scored) if shares else None
        # All of it means with the names of the files and the marks of the gaps.
        whole = result.total_tokens + len(texts) * (HEADER_TOKENS + GAP_TOKENS)
        budget = min(request.budget_tokens, int(request.keep_ratio * whole))
        if not texts:
            result.abstained = "nothing to choose from"
        elif result.pull is not None and result.pull < request.least_pull:
            result.abstained = "the text before the cursor draws more attention than any of it"
        scored = [
            ScoredLines(text.lines, text.n_tokens, score, segment.forced)
            for text, score, segment in zip(texts, scores, request.segments, strict=True)
        ]
        result.spans = choose(scored, 0 if result.abstained else budget)
        result.kept_tokens = sum(s.n_tokens for spans in result.spans for s in spans if s.is_kept)

    def _line_scores(
        self, texts: list[_Text], shares: list[Floats], priors: Sequence[float]
    ) -> list[Floats]:
        """Each line's share relative to the best of all, averaged over the layers, times what its
        segment's prior is worth; in 0..1."""
        n_lines = np.array([len(text.lines) for text in texts], np.int64)
        starts = np.concatenate([[0], np.cumsum(n_lines)]).astype(np.int32)
        total = np.zeros(int(starts[-1]), np.float32)
        if shares:
            lines = np.concatenate(
                [text.lines_of_ids + start for text, start in zip(texts, starts, strict=False)]
            )
            for share in shares:
                best = shares_of_lines(share[: len(lines)], lines, len(total))
                total += best / max(float(best.max(initial=0.0)), 1e-12)
            total /= len(shares)
            total *= np.repeat(1 + _PRIOR_WORTH * np.array(priors, np.float32), n_lines)
            total /= max(float(total.max(initial=0.0)), 1e-12)
        return [total[a:b] for a, b in zip(starts, starts[1:], strict=False)]

    # ---- texts ----

    def _text(self, segment: Segment) -> _Text:
        data = f"{len(segment.header)} {segment.header}{segment.text}".encode("utf-8", "replace")
        name = blake2b(data, digest_size=16, key=self.scorer.name.encode()[:64]).hexdigest()
        text = self._texts.get(name)
        if text is None:
            text = self._texts[name] = self._read(name, segment)
            if len(self._texts) > _MOST_TEXTS:
                self._texts.popitem(last=False)
        self._texts.move_to_end(name)
        return text

    def _read(self, name: str, segment: Segment) -> _Text:
        header = self.scorer.tokenizer.encode(segment.header)
        body = self.scorer.tokenizer.encode(segment.text)
        lines = split_lines(segment.text)
        lines_of_ids = lines_of_tokens(self.scorer.tokenizer, body, segment.text)
        lines_of_target = lines_of_ids
        if not self._is_shared:
            ids = self._tokenizer.encode(segment.text)
            lines_of_target = lines_of_tokens(self._tokenizer, ids, segment.text)
        # Keys of a text without a header lose what would only be its sink.
        n_header = max(len(header), min(_SINK_TOKENS, len(body)))
        ids = [*header, *body][:SEGMENT_TOKENS]
        n_skipped = n_header - len(header)
        return _Text(
            name,
            ids,
            n_header,
            lines,
            lines_of_ids[n_skipped : n_skipped + len(ids) - n_header],
            counts_of_lines(lines_of_target, len(lines)),
        )


def _pull(shares: Floats, n_scored: int) -> float | None:
    """The mean of the largest shares among the segments' tokens over that among the query's own,
    those that ask left out; of the deepest layer, which tells best whether something is missing."""
    own = shares[n_scored : len(shares) - QUERY_ROWS]
    if len(own) < _PULL_TOKENS or n_scored < _PULL_TOKENS:
        return None
    best, best_own = (
        float(np.partition(some, -_PULL_TOKENS)[-_PULL_TOKENS:].mean())
        for some in (shares[:n_scored], own)
    )
    return best / max(best_own, 1e-12)


def _ms_since(started: float) -> float:
    return (monotonic() - started) * 1000
