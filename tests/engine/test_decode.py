"""The decoding loop: limits, stop strings, healing and UTF-8, over a scripted model."""

import numpy as np
import pytest

from engine.config import SamplingConfig
from engine.decode import Decoded, DecodeLimits, HealingConstraint, StopFilter, decode
from engine.request import FinishReason
from engine.sampling import Sampler
from engine.session import StepCancelled, Verified
from engine.speculation.costs import guessed_costs
from engine.speculation.speculator import Speculation

END = 0
# A vocabulary whose ids 1.. are these texts; "é" and the face are cut inside their bytes.
PIECES = [
    b"",
    b"a",
    b"b",
    b"ab",
    b"abc",
    b" x",
    b"\n",
    b"\xc3",
    b"\xa9",
    b"\xf0\x9f",
    b"\x98\x80",
    b"c",
]


class Vocabulary:
    end_ids = frozenset({END})

    def token_bytes(self, id: int) -> bytes:
        return PIECES[id]

    def ids_starting_with(self, prefix: bytes) -> np.ndarray:
        return np.array([i for i, p in enumerate(PIECES) if p.startswith(prefix)], np.int64)

    def ids_that_prefix(self, prefix: bytes) -> np.ndarray:
        found = [i for i, p in enumerate(PIECES) if p and p != prefix and prefix.startswith(p)]
        return np.array(found, np.int64)


class ScriptedSession:
    """Wants the tokens of a script, one after another, and all others in order of their ids."""

    def __init__(self, script: list[int], cancel_at: int | None = None) -> None:
        self.script, self.fed, self.cancel_at = script, [], cancel_at
        self.n_free = 1000

    def want(self) -> Verified:
        n = len(self.fed)
        logits = -np.arange(len(PIECES), dtype=np.float32)[None] / 100
        wanted = self.script[n] if n < len(self.script) else END
        logits[0, wanted] = 9
        return Verified([int(logits.argmax())], logits)

    def verify(self, tokens: tuple[int, ...], parents: tuple[int, ...]) -> Verified:
        assert parents == (-1,)
        if len(self.fed) == self.cancel_at:
            raise StepCancelled
        self.fed += tokens
        return self.want()

    def accept(self, path: list[int]) -> None:
        assert path == [0]


def run(
    script: list[int],
    *,
    max_tokens: int = 50,
    stop: tuple[str, ...] = (),
    healed: bytes = b"",
    on_text: object = None,
    deadline: float | None = None,
    cancel_at: int | None = None,
) -> tuple[Decoded, list[str]]:
    session = ScriptedSession(script, cancel_at)
    pieces: list[str] = []

    def record(text: str) -> bool:
        pieces.append(text)
        return on_text(text) if callable(on_text) else True

    vocabulary = Vocabulary()
    decoded = decode(
        session,  # type: ignore[arg-type]
        session.want(),
        Sampler(SamplingConfig()),
        vocabulary,  # type: ignore[arg-type]
        DecodeLimits(max_tokens=max_tokens, stop=stop, deadline=deadline),
        HealingConstraint(vocabulary, healed),  # type: ignore[arg-type]
        record,
        Speculation("off", guessed_costs()).begin(None),
    )
    return decoded, pieces


def test_an_end_token_ends_the_text_and_is_not_part_of_it() -> None:
    decoded, pieces = run([1, 2, END, 3])
    assert (decoded.text, decoded.tokens) == ("ab", [1, 2])
    assert decoded.finish_reason is FinishReason.STOP
    assert pieces == ["a", "b"]


def test_the_limit_ends_it_without_a_step_too_many() -> None:
    decoded, _ = run([1, 1, 1, 1], max_tokens=3)
    assert (decoded.text, decoded.n_steps) == ("aaa", 2)
    assert decoded.finish_reason is FinishReason.LENGTH


@pytest.mark.parametrize("stop", [("bx",), ("c",), ("\nb",)])
def test_text_goes_on_where_a_stop_string_does_not_appear(stop: tuple[str, ...]) -> None:
    decoded, pieces = run([1, 2, 6, 1, END], stop=stop)
    assert decoded.text == "".join(pieces) == "ab\na"


def test_a_stop_string_across_tokens_is_cut_and_never_shown() -> None:
    decoded, pieces = run([1, 6, 2, 5, 1], stop=("\nb x",))
    assert decoded.text == "".join(pieces) == "a"
    assert decoded.finish_reason is FinishReason.STOP


def test_the_caller_may_end_it() -> None:
    decoded, _ = run([1, 2, 1, 2], on_text=lambda text: text != "b")
    assert (decoded.text, decoded.finish_reason) == ("ab", FinishReason.STOP)


def test_characters_are_shown_whole() -> None:
    decoded, pieces = run([7, 8, 1, 9, 10, END])
    assert decoded.text == "éa😀"
    assert pieces == ["é", "a", "😀"]


def test_half_a_character_at_the_end_is_replaced() -> None:
    decoded, _ = run([1, 9, END])
    assert decoded.text == "a�"


@pytest.mark.parametrize("healed", [b"a", b"ab", b"abc", b" x", b"cab", "é".encode()])
def test_healing_spells_the_prefix_first_and_hides_it(healed: bytes) -> None:
    decoded, pieces = run([5, 5, 5, 5, END], healed=healed)
    spelled = b"".join(PIECES[token] for token in decoded.tokens)
    assert spelled.startswith(healed)
    assert decoded.text == "".join(pieces) == spelled[len(healed) :].decode()


def test_healing_takes_the_likeliest_token_that_agrees() -> None:
    decoded, _ = run([4, 2, END], healed=b"ab")
    assert (decoded.tokens, decoded.text) == ([4, 2], "cb")


def test_a_vocabulary_that_cannot_spell_the_prefix_ends_healing() -> None:
    assert HealingConstraint(Vocabulary(), b"zz").allowed() is None  # type: ignore[arg-type]


def test_a_deadline_in_the_past_returns_nothing_at_once() -> None:
    decoded, _ = run([1, 1], deadline=0.0)
    assert (decoded.text, decoded.finish_reason) == ("", FinishReason.DEADLINE)


def test_a_cancelled_step_ends_it_with_what_there_is() -> None:
    decoded, _ = run([1, 2, 1], cancel_at=1)
    assert (decoded.text, decoded.finish_reason) == ("ab", FinishReason.CANCELLED)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_a_stop_filter_gives_the_same_text_however_it_is_cut(size: int) -> None:
    text = "one\ntwo\n\nthree ### four"
    for stop in (("\n\n",), ("###", "\n\nfo"), ("nothing",)):
        end = min([text.find(s) for s in stop if s in text], default=len(text))
        filter, shown, is_stopped = StopFilter(stop), "", False
        for i in range(0, len(text), size):
            piece, is_stopped = filter.push(text[i : i + size])
            shown += piece
            if is_stopped:
                break
        assert shown + ("" if is_stopped else filter.flush()) == text[:end]
