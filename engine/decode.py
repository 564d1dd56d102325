"""The one decoding loop. Plain decoding is a tree of one node.

Knows tokens and their bytes; what text should end where is the caller's business (`on_text`).
"""

import codecs
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from time import monotonic, perf_counter

import numpy as np
from numpy.typing import NDArray

from engine.request import FinishReason
from engine.sampling import Sampler
from engine.session import Session, StepCancelled, Verified
from engine.speculation.draft import DraftTree
from engine.speculation.speculator import Speculator
from engine.tokenizer import Tokenizer

OnText = Callable[[str], bool]


@dataclass(kw_only=True)
class DecodeLimits:
    """When decoding must end. `deadline` is a time.monotonic() value."""

    max_tokens: int
    stop: tuple[str, ...] = ()
    deadline: float | None = None


@dataclass
class Decoded:
    """What came out: generated ids without the end token, text without the stop string.

    `n_steps` counts steps of the model, however many tokens they decided."""

    finish_reason: FinishReason = FinishReason.LENGTH
    tokens: list[int] = field(default_factory=list[int])
    text: str = ""
    n_steps: int = 0


class HealingConstraint:
    """Restricts the first tokens to those that spell `prefix`, which is not part of the text."""

    def __init__(self, tokenizer: Tokenizer, prefix: bytes) -> None:
        self._tokenizer = tokenizer
        self._pending = prefix

    def allowed(self) -> NDArray[np.int64] | None:
        """Ids, ascending, that agree with what is still to be spelled; None when any will do.

        Any will do when nothing is left to spell, or when no token can spell the rest.
        """
        if not self._pending:
            return None
        longer = self._tokenizer.ids_starting_with(self._pending)
        shorter = self._tokenizer.ids_that_prefix(self._pending)
        # No token is of both kinds. A third of a vocabulary may start with a space.
        found = np.insert(longer, np.searchsorted(longer, shorter), shorter)
        return found if len(found) else None

    def consume(self, token_bytes: bytes) -> bytes:
        """Takes a chosen token's bytes; returns those beyond the prefix."""
        if not self._pending:
            return token_bytes
        n = min(len(self._pending), len(token_bytes))
        self._pending = self._pending[n:]
        return token_bytes[n:]


class StopFilter:
    """Withholds text that may turn out to be a stop string."""

    def __init__(self, stop: tuple[str, ...]) -> None:
        self._stop = tuple(s for s in stop if s)
        self._held = ""

    def push(self, piece: str) -> tuple[str, bool]:
        """The text now certain to precede any stop string, and whether one was found."""
        if not self._stop:
            return piece, False
        text = self._held + piece
        found = [i for s in self._stop if (i := text.find(s)) >= 0]
        if found:
            self._held = ""
            return text[: min(found)], True
        n_held = max((_overlap(text, s) for s in self._stop), default=0)
        self._held = text[len(text) - n_held :]
        return text[: len(text) - n_held], False

    def flush(self) -> str:
        held, self._held = self._held, ""
        return held


class Output:
    """What is generated: takes tokens one by one and says when they are enough. Their text is made
    when there is time for it, and may end what they go on with."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        limits: DecodeLimits,
        healing: HealingConstraint,
        on_text: OnText | None,
    ) -> None:
        self.decoded = Decoded()
        self._tokenizer = tokenizer
        self._limits = limits
        self._healing = healing
        self._on_text = on_text
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._stop = StopFilter(limits.stop)
        self._unshown: list[bytes] = []  # of the latest tokens
        self.is_cut = False  # by a stop string or the caller: nothing may follow

    @property
    def n_left(self) -> int:
        return self._limits.max_tokens - len(self.decoded.tokens)

    def is_late(self) -> bool:
        deadline = self._limits.deadline
        if deadline is None or monotonic() < deadline:
            return False
        self.decoded.finish_reason = FinishReason.DEADLINE
        return True

    def take(self, token: int) -> bool:
        """Whether to go on after `token`, as far as its text does not forbid it."""
        if token in self._tokenizer.end_ids:
            self.decoded.finish_reason = FinishReason.STOP
            return False
        self.decoded.tokens.append(token)
        self._unshown.append(self._healing.consume(self._tokenizer.token_bytes(token)))
        return self.n_left > 0

    def show(self) -> bool:
        """Makes the text of the tokens taken so far. False if it ends with one of them: those after
        it are forgotten."""
        pieces, self._unshown = self._unshown, []
        for n_more, piece in zip(reversed(range(len(pieces))), pieces, strict=True):
            text, is_stopped = self._stop.push(self._utf8.decode(piece))
            self.decoded.text += text
            wants_more = self._on_text is None or not text or self._on_text(text)
            if is_stopped or not wants_more:
                self.decoded.finish_reason = FinishReason.STOP
                self.is_cut = True
                del self.decoded.tokens[len(self.decoded.tokens) - n_more :]
                break
        return not self.is_cut

    def finish(self) -> Decoded:
        """Everything, with the text that was withheld until its end was known."""
        if self.show():
            rest = self._utf8.decode(b"", final=True) + self._stop.flush()
            self.decoded.text += rest
            if rest and self._on_text is not None:
                self._on_text(rest)
        return self.decoded


def decode(
    session: Session,
    first: Verified,
    sampler: Sampler,
    tokenizer: Tokenizer,
    limits: DecodeLimits,
    healing: HealingConstraint,
    on_text: OnText | None,
    speculator: Speculator,
) -> Decoded:
    """Generates from the last row of `first` until a limit, an end token or `on_text` says so.

    Each step verifies a tree of drafts below the token decided last. Every token is chosen from the
    target's own row after the tokens before it, in their order, so that the text and the random
    numbers it took are those of plain decoding whatever was drafted (SPEC B.7).
    """
    output = Output(tokenizer, limits, healing, on_text)
    decoded = output.decoded

    def decide(verified: Verified, row: int) -> int | None:
        """The token after `row`; None ends it."""
        if output.is_late():
            return None
        token = choose(verified, row, sampler, healing)
        return token if output.take(token) else None

    try:
        goes_on = decide(first, len(first.argmax) - 1) is not None
        while goes_on:
            tree = speculator.draft(session, decoded.tokens, output.n_left - 1, output.show)
            if output.is_cut:
                break
            started = perf_counter()
            is_greedy = sampler.is_greedy and healing.allowed() is None
            meanwhile = partial(_look_ahead, tree, speculator, session, is_greedy)
            verified = session.verify(tree.tokens, tree.parents, meanwhile=meanwhile)
            verify_ms = _ms_since(started)
            path, goes_on = walk(tree, verified, decide)
            started = perf_counter()
            session.accept(path)
            speculator.observe(tree, path, verify_ms, _ms_since(started))
            decoded.n_steps += 1
    except StepCancelled:
        decoded.finish_reason = FinishReason.CANCELLED
    return output.finish()


def _look_ahead(tree: DraftTree, speculator: Speculator, session: Session, is_greedy: bool) -> None:
    """What need not wait for the results of a step."""
    speculator.look_ahead(session, is_greedy=is_greedy)
    _ = tree.children


def walk(
    tree: DraftTree, verified: Verified, decide: Callable[[Verified, int], int | None]
) -> tuple[list[int], bool]:
    """Follows the decisions down the tree: the rows they agree with, root first, and whether to go
    on after them. Rows that are not on the path are never looked at."""
    children = tree.children
    path = [0]
    while (token := decide(verified, path[-1])) is not None:
        child = children.get((path[-1], token))
        if child is None:
            return path, True
        path.append(child)
    return path, False


def choose(verified: Verified, row: int, sampler: Sampler, healing: HealingConstraint) -> int:
    """The next token after a row of `verified`."""
    allowed = healing.allowed()
    if sampler.is_greedy and allowed is None:
        return verified.argmax[row]
    if allowed is None and sampler.n_candidates is not None:
        ids, logits = verified.likeliest(sampler.n_candidates)
        return sampler.pick_among(ids[row], logits[row])
    return sampler.pick(verified.logits_of(row), allowed)


def _overlap(text: str, stop: str) -> int:
    """Length of the longest proper prefix of `stop` that ends `text`."""
    for n in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:n]):
            return n
    return 0


def _ms_since(started: float) -> float:
    return (perf_counter() - started) * 1000
