"""The decoding loop: limits, stop strings, healing and UTF-8, over a scripted model."""

from collections import Counter
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest

from engine.backends.likeliest import likeliest
from engine.config import SamplingConfig
from engine.decode import Decoded, DecodeLimits, HealingConstraint, StopFilter, decode
from engine.request import FinishReason
from engine.sampling import Sampler
from engine.session import StepCancelled, Verified
from engine.speculation.costs import guessed_costs
from engine.speculation.draft import ROOT, BlockDraft
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
        return Verified(
            [int(logits.argmax())],
            lambda first, end: logits[first:end],
            lambda k: likeliest(logits, k),
        )

    def verify(
        self, tokens: tuple[int, ...], parents: tuple[int, ...], meanwhile: Callable[[], None]
    ) -> Verified:
        assert parents == (-1,)
        meanwhile()
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
        Speculation("off", guessed_costs()).begin("off", None),
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


N_VOCAB, N_DRAWN = 5, 3


class RandomModel:
    """A session whose logits are random numbers, given by the two tokens before."""

    logits = np.random.default_rng(3).normal(0, 1.5, (N_VOCAB, N_VOCAB, N_VOCAB)).astype(np.float32)
    n_free = 1000

    def __init__(self) -> None:
        self.tokens, self._tree = [0, 0], ((), ())

    def row(self, before: int, last: int) -> np.ndarray:
        return self.logits[before, last]

    def want(self) -> Verified:
        return self._of([self.row(*self.tokens[-2:])])

    def verify(
        self, tokens: tuple[int, ...], parents: tuple[int, ...], meanwhile: Callable[[], None]
    ) -> Verified:
        meanwhile()
        self._tree = (tokens, parents)
        rows = []
        for token, parent in zip(tokens, parents, strict=True):
            before = self.tokens[-1] if parent == ROOT else tokens[parent]
            rows.append(self.row(before, token))
        return self._of(rows)

    def accept(self, path: list[int]) -> None:
        tokens, parents = self._tree
        assert [parents[row] for row in path] == [ROOT, *path[:-1]]
        self.tokens += [tokens[row] for row in path]

    def _of(self, rows: list[np.ndarray]) -> Verified:
        logits = np.stack(rows)
        return Verified(
            logits.argmax(1).tolist(),
            lambda first, end: logits[first:end],
            lambda k: likeliest(logits, k),
        )


class RandomDrafter:
    """Drafts tokens at random, as sure of them as chance has it."""

    block_rows = N_DRAWN
    is_concurrent = False

    def __init__(self, seed: int, n_ranks: int) -> None:
        self.rng, self.n_ranks = np.random.default_rng(seed), n_ranks

    def begin(self, session: object, last_token: int, n_rows: int) -> Callable[[], BlockDraft]:
        ids = [self.rng.permutation(N_VOCAB)[: self.n_ranks] for _ in range(n_rows - 1)]
        shares = np.sort(self.rng.dirichlet(np.ones(self.n_ranks), n_rows - 1))[:, ::-1]
        block = BlockDraft(np.array(ids, np.int32), np.log(shares + 1e-6).astype(np.float32))
        return lambda: block


class NoEnd(Vocabulary):
    end_ids = frozenset()


def draw(seed: int, budget: int | None, n_ranks: int, top_k: int = 0) -> tuple[int, ...]:
    session = RandomModel()
    drafter = RandomDrafter(seed, n_ranks)
    mode = "off" if budget is None else "auto"
    decoded = decode(
        session,  # type: ignore[arg-type]
        session.want(),
        Sampler(SamplingConfig(temperature=1.0, top_k=top_k, top_p=1.0, seed=seed)),
        NoEnd(),  # type: ignore[arg-type]
        DecodeLimits(max_tokens=N_DRAWN),
        HealingConstraint(NoEnd(), b""),  # type: ignore[arg-type]
        None,
        Speculation(mode, guessed_costs(), drafter, budget).begin(mode, None),
    )
    assert session.tokens[2:] == decoded.tokens[:-1]
    return tuple(decoded.tokens)


def probability(tokens: tuple[int, ...]) -> float:
    """What the model gives a text, multiplied out from its softmax."""
    text, joint = (0, 0, *tokens), 1.0
    for before, last, token in zip(text, text[1:], text[2:], strict=False):
        weights = np.exp(RandomModel.logits[before, last].astype(np.float64))
        joint *= weights[token] / weights.sum()
    return joint


@pytest.mark.parametrize(
    ("budget", "n_ranks"),
    [(None, 1), (1, 1), (2, 1), (3, 2), (12, 5)],
    ids=["plain", "one draft", "chain", "small tree", "full tree"],
)
def test_sampled_texts_are_as_frequent_as_they_are_probable(
    budget: int | None, n_ranks: int
) -> None:
    n_runs = 4000
    found = Counter(draw(seed, budget, n_ranks) for seed in range(n_runs))
    texts = list(product(range(N_VOCAB), repeat=N_DRAWN))
    expected = {text: n_runs * probability(text) for text in texts}
    # The test wants at least five expected in each class: rare texts are counted together.
    common = [text for text in texts if expected[text] >= 5]
    classes = [(found[text], expected[text]) for text in common]
    classes.append((n_runs - sum(n for n, _ in classes), n_runs - sum(e for _, e in classes)))
    chi_square = sum((n - e) ** 2 / e for n, e in classes)
    assert chi_square < critical_chi_square(len(classes) - 1)


@pytest.mark.parametrize(("budget", "n_ranks"), [(None, 1), (2, 1), (12, 5)])
def test_texts_drawn_from_the_best_are_those_drawn_from_all(
    budget: int | None, n_ranks: int
) -> None:
    for seed in range(200):
        # All five are the best five: the same texts, by way of `likeliest` alone.
        assert draw(seed, budget, n_ranks, top_k=N_VOCAB) == draw(seed, budget, n_ranks)


def critical_chi_square(n_free: int) -> float:
    """What chance exceeds once in 10,000 times, by Wilson and Hilferty's approximation."""
    spread = 2 / (9 * n_free)
    return n_free * (1 - spread + 3.719 * spread**0.5) ** 3
