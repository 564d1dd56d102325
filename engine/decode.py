"""The one decoding loop. Plain decoding is a tree of one node.

Knows tokens and their bytes; what text should end where is the caller's business (`on_text`).
"""

import codecs
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from engine.request import FinishReason
from engine.sampling import Sampler
from engine.session import ROOT, Session, StepCancelled, Verified
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
    """What came out: generated ids without the end token, text without the stop string."""

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
        """Ids that agree with what is still to be spelled; None when any will do.

        Any will do when nothing is left to spell, or when no token can spell the rest.
        """
        if not self._pending:
            return None
        longer = self._tokenizer.ids_starting_with(self._pending)
        shorter = self._tokenizer.ids_that_prefix(self._pending)
        found = np.union1d(longer, shorter)
        return found if len(found) else None

    def consume(self, token_bytes: bytes) -> bytes:
        """Takes a chosen token's bytes; returns those beyond the prefix."""
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


def decode(
    session: Session,
    first: Verified,
    sampler: Sampler,
    tokenizer: Tokenizer,
    limits: DecodeLimits,
    healing: HealingConstraint,
    on_text: OnText | None,
) -> Decoded:
    """Generates from the last row of `first` until a limit, an end token or `on_text` says so."""
    result = Decoded()
    utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")
    stop = StopFilter(limits.stop)
    latest = first

    def emit(piece: str) -> bool:
        """Whether to go on."""
        text, is_stopped = stop.push(piece)
        result.text += text
        wants_more = on_text is None or not text or on_text(text)
        if is_stopped or not wants_more:
            result.finish_reason = FinishReason.STOP
        return wants_more and not is_stopped

    while True:
        if limits.deadline is not None and monotonic() >= limits.deadline:
            result.finish_reason = FinishReason.DEADLINE
            break
        token = choose(latest, sampler, healing)
        if token in tokenizer.end_ids:
            result.finish_reason = FinishReason.STOP
            break
        result.tokens.append(token)
        if not emit(utf8.decode(healing.consume(tokenizer.token_bytes(token)))):
            return result
        if len(result.tokens) >= limits.max_tokens:
            break
        try:
            latest = session.verify([token], [ROOT])
        except StepCancelled:
            result.finish_reason = FinishReason.CANCELLED
            break
        session.accept([0])
        result.n_steps += 1
    rest = utf8.decode(b"", final=True) + stop.flush()
    result.text += rest
    if rest and on_text is not None:
        on_text(rest)
    return result


def choose(verified: Verified, sampler: Sampler, healing: HealingConstraint) -> int:
    """The next token after the last row of `verified`."""
    allowed = healing.allowed()
    if sampler.is_greedy and allowed is None:
        return verified.argmax[-1]
    return sampler.pick(verified.logits[-1], allowed)


def _overlap(text: str, stop: str) -> int:
    """Length of the longest proper prefix of `stop` that ends `text`."""
    for n in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:n]):
            return n
    return 0
