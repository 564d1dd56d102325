"""Speculation end to end on a tiny model: whoever drafts, the text is that of plain decoding."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from engine.cancel import CancelToken
from engine.config import EngineConfig, SamplingConfig, SpeculationMode
from engine.engine import Engine
from engine.errors import RequestError
from engine.request import FinishReason, GenerateRequest, GenerateResult, PromptPart
from engine.sampling import Sampler
from engine.session import Session, StepCancelled
from engine.speculation.costs import StepCosts
from engine.speculation.draft import BlockDraft
from engine.speculation.lookup import Lookup
from engine.speculation.speculator import Speculation
from tests.engine.tiny_model import N_VOCAB
from tests.tiny_gguf import write_tiny_gguf

TEXT = "def add(a, b):\n    return a + b\n\n\ndef add(b, a):\n"
PROMPTS = [TEXT, TEXT * 4, "x = 1\nx = 1\nx = 1\nx", "é", ""]
SAMPLED = SamplingConfig(temperature=1.3, top_k=0, top_p=0.98, seed=11)
USUAL = SamplingConfig(temperature=1.3, seed=12)  # drawn from the best alone
CHEAP_ROWS = {1: 10.0, 64: 10.3}

Candidates = Callable[[np.random.Generator, int], list[int]]


class FakeDrafter:
    """Drafts from what it is told will come, mixed with noise as `candidates` does."""

    block_rows = 8

    def __init__(self, candidates: Candidates, *, is_concurrent: bool = False) -> None:
        self.candidates, self.is_concurrent = candidates, is_concurrent
        self.script: list[int] = []
        self.rng = np.random.default_rng(0)
        self.n_blocks = self.n_read = 0

    def begin_below(self, session: Session, n_rows: int) -> None:
        return None

    def begin(self, session: Session, last_token: int, n_rows: int) -> Callable[[], BlockDraft]:
        self.n_blocks += 1
        n_past = len(session.tokens) + 1
        coming = [*self.script[n_past : n_past + n_rows - 1], *[0] * n_rows][: n_rows - 1]
        ids = np.array([self.candidates(self.rng, token) for token in coming], np.int32)
        shares = np.sort(self.rng.dirichlet(np.ones(4), len(ids)))[:, ::-1]
        block = BlockDraft(ids, np.log(shares + 1e-9).astype(np.float32))

        def read() -> BlockDraft:
            self.n_read += 1
            return block

        return read


def oracle(rng: np.random.Generator, right: int) -> list[int]:
    return [(right + k) % N_VOCAB for k in (0, 1, 2, 3)]


def adversary(rng: np.random.Generator, right: int) -> list[int]:
    return [(right + k) % N_VOCAB for k in (1, 2, 3, 4)]


def half_right(rng: np.random.Generator, right: int) -> list[int]:
    return rng.permutation((oracle if rng.random() < 0.5 else adversary)(rng, right)).tolist()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_gguf(tmp_path_factory.mktemp("model") / "tiny.gguf", "qwen2", "Q8_0")


@pytest.fixture(scope="module")
def plain(model: Path) -> Iterator[Engine]:
    engine = load(model, "off")
    yield engine
    engine.close()


def load(model: Path, mode: SpeculationMode, **options: object) -> Engine:
    config = EngineConfig(
        model=str(model), n_threads=2, prefix_cache_bytes=2**20, speculation=mode, **options
    )  # type: ignore[arg-type]
    return Engine.load(config)


def with_drafter(engine: Engine, drafter: FakeDrafter, budget: int | None) -> None:
    engine._speculation = Speculation("auto", StepCosts(CHEAP_ROWS), drafter, budget)  # pyright: ignore


def generate(engine: Engine, text: str, sampling: SamplingConfig, **options: object):
    options.setdefault("max_tokens", 40)
    parts = options.pop("prompt", (PromptPart(text),))
    request = GenerateRequest(prompt=parts, sampling=sampling, **options)  # type: ignore[arg-type]
    return engine.generate(request, CancelToken())


def same(left: GenerateResult, right: GenerateResult) -> None:
    assert left.tokens == right.tokens
    assert (left.text, left.finish_reason) == (right.text, right.finish_reason)


@pytest.mark.parametrize(
    "sampling", [SamplingConfig(), SAMPLED, USUAL], ids=["greedy", "sampled", "usual"]
)
@pytest.mark.parametrize("budget", [None, 1, 5, 22, 63])
@pytest.mark.parametrize("candidates", [oracle, adversary, half_right])
@pytest.mark.parametrize("is_concurrent", [False, True])
def test_no_drafter_changes_the_text(
    model: Path,
    plain: Engine,
    candidates: Candidates,
    budget: int | None,
    sampling: SamplingConfig,
    is_concurrent: bool,
) -> None:
    engine = load(model, "off")
    drafter = FakeDrafter(candidates, is_concurrent=is_concurrent)
    with_drafter(engine, drafter, budget)
    for text in PROMPTS:
        expected = generate(plain, text, sampling)
        drafter.script = expected.prompt_tokens + expected.tokens
        found = generate(engine, text, sampling)
        same(found, expected)
        assert found.n_steps == found.speculation.steps <= expected.n_steps
    assert drafter.n_blocks


class CommittedTokens:
    """What a FakeDrafter sees of a session."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.n_free = 10_000


@pytest.mark.parametrize("is_concurrent", [False, True])
@pytest.mark.parametrize("candidates", [oracle, adversary])
def test_blocks_are_begun_before_anybody_wants_them_where_most_are_wanted(
    candidates: Candidates, is_concurrent: bool
) -> None:
    drafter = FakeDrafter(candidates, is_concurrent=is_concurrent)
    speculation = Speculation("auto", StepCosts(CHEAP_ROWS), drafter)
    text = np.random.default_rng(0).integers(0, N_VOCAB, 1500).tolist()
    text[1000:] = text[:500]  # which lookup knows by then
    lookup = Lookup([0], cursor=1, room=len(text))
    speculator, session = speculation.begin("auto", lookup), CommittedTokens()
    drafter.script = text
    n_decided, n_unread = 1, list[int]()
    while n_decided < len(text) - 20:
        session.tokens = text[: n_decided - 1]
        tree = speculator.draft(session, text[:n_decided], 16)  # type: ignore[arg-type]
        path, children = [0], tree.children
        while (row := children.get((path[-1], text[n_decided]))) is not None:
            path.append(row)
            n_decided += 1
        n_decided += 1
        speculator.observe(tree, path, 10.0, 0.0)
        n_unread.append(drafter.n_blocks - drafter.n_read)
    assert drafter.n_read > 0
    if not is_concurrent:  # the host would wait for what nobody wants
        assert n_unread[-1] == 0
    elif candidates is oracle:  # lookup does as well in the end, and the block is there already
        assert n_unread[-1] > 0
    else:  # soon nobody asks any more who is never right
        assert n_unread[-1] == n_unread[len(n_unread) // 4]


@pytest.mark.parametrize(
    "sampling", [SamplingConfig(), SAMPLED, USUAL], ids=["greedy", "sampled", "usual"]
)
@pytest.mark.parametrize("mode", ["lookup", "auto"])
@pytest.mark.parametrize("budget", [None, 1, 7, 63])
def test_no_mode_changes_the_text(
    model: Path,
    plain: Engine,
    mode: SpeculationMode,
    budget: int | None,
    sampling: SamplingConfig,
) -> None:
    engine = load(model, mode, tree_budget=budget)
    for text in PROMPTS:
        for references in ((), (TEXT, "zzz")):
            expected = generate(plain, text, sampling)
            same(generate(engine, text, sampling, references=references), expected)


@pytest.mark.parametrize("mode", ["off", "lookup"])
def test_the_best_give_the_text_that_all_logits_give(
    model: Path, mode: SpeculationMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = load(model, mode)
    with monkeypatch.context() as patch:
        patch.delattr(Sampler, "pick")
        found = [generate(engine, text, USUAL) for text in PROMPTS]
    monkeypatch.setattr("engine.sampling.MOST_CANDIDATES", 0)
    for text, result in zip(PROMPTS, found, strict=True):
        same(generate(engine, text, USUAL), result)


def test_healing_stops_and_limits_are_those_of_plain_decoding(model: Path, plain: Engine) -> None:
    engine = load(model, "off")
    drafter = FakeDrafter(oracle)
    with_drafter(engine, drafter, 40)
    for text in ("def add(a, b):\n    ret", "class Val", "x = 1\n        "):
        parts = (PromptPart(text, heal=True),)
        free = generate(plain, text, SAMPLED, prompt=parts)
        stops = [free.text[k : k + 3] for k in (0, 5, 17)]
        limits = [{}, *({"stop": (s,)} for s in stops), *({"max_tokens": n} for n in (1, 2, 9))]
        for options in limits:
            expected = generate(plain, text, SAMPLED, prompt=parts, **options)
            drafter.script = expected.prompt_tokens + free.tokens
            same(generate(engine, text, SAMPLED, prompt=parts, **options), expected)


def test_nothing_after_an_end_token_is_emitted_or_counted(model: Path) -> None:
    engine = load(model, "off")
    plain_tokens = generate(engine, TEXT, SamplingConfig()).tokens
    engine.tokenizer.end_ids = frozenset({*engine.tokenizer.end_ids, plain_tokens[6]})
    expected = generate(engine, TEXT, SamplingConfig())
    assert expected.finish_reason is FinishReason.STOP
    assert plain_tokens[6] not in expected.tokens
    drafter = FakeDrafter(oracle)
    drafter.script = expected.prompt_tokens + plain_tokens
    with_drafter(engine, drafter, 63)
    found = generate(engine, TEXT, SamplingConfig())
    same(found, expected)
    assert sum(found.speculation.accepted_lengths[1:])


def test_the_context_may_be_filled_to_its_last_token(model: Path, plain: Engine) -> None:
    engine = load(model, "off")
    drafter = FakeDrafter(oracle)
    with_drafter(engine, drafter, 63)
    text = "a b c " * 70
    expected = generate(plain, text, SamplingConfig(), max_tokens=10_000)
    drafter.script = expected.prompt_tokens + expected.tokens
    same(generate(engine, text, SamplingConfig(), max_tokens=10_000), expected)


def test_what_is_counted_adds_up(model: Path, plain: Engine) -> None:
    engine = load(model, "off")
    drafter = FakeDrafter(oracle)
    with_drafter(engine, drafter, 20)
    expected = generate(plain, TEXT, SamplingConfig())
    drafter.script = expected.prompt_tokens + expected.tokens
    result = generate(engine, TEXT, SamplingConfig())
    report = result.speculation
    assert sum(report.accepted_lengths) == sum(report.tree_sizes) == report.steps
    n_accepted = sum(n * count for n, count in enumerate(report.accepted_lengths))
    assert report.acceptance_length == pytest.approx(1 + n_accepted / report.steps)
    assert report.by_source["dflash"].accepted >= 0.9 * n_accepted > 0
    assert report.by_source["dflash"].proposed >= report.by_source["dflash"].accepted
    parts = report.draft_ms + report.verify_ms + report.commit_ms + report.host_ms
    assert parts == pytest.approx(result.timings_ms.decode)
    stats = engine.stats()
    assert (stats.n_steps, stats.n_drafts_accepted) == (report.steps, n_accepted)


def test_a_drafter_that_is_cancelled_ends_the_request(model: Path) -> None:
    class Cancelled(FakeDrafter):
        def begin(self, session: Session, last_token: int, n_rows: int) -> Callable[[], BlockDraft]:
            raise StepCancelled

    engine = load(model, "off")
    with_drafter(engine, Cancelled(oracle), 5)
    result = generate(engine, TEXT, SamplingConfig())
    assert (result.finish_reason, len(result.tokens)) == (FinishReason.CANCELLED, 1)


def test_a_drafter_must_be_there_when_asked_for(model: Path) -> None:
    with pytest.raises(RequestError, match="--drafter"):
        load(model, "dflash")


def test_a_request_may_choose_who_drafts(model: Path, plain: Engine) -> None:
    engine = load(model, "auto", tree_budget=8)
    for mode in ("off", "lookup", "auto"):
        result = generate(engine, "x = 1\n" * 9, SamplingConfig(), speculation=mode)
        assert result.speculation.mode == mode
        assert bool(result.speculation.by_source) == (mode != "off")
        off = generate(plain, "x = 1\n" * 9, SamplingConfig(), speculation=mode)
        assert off.speculation.mode == "off"
        same(result, off)
    with pytest.raises(RequestError, match="--drafter"):
        generate(engine, TEXT, SamplingConfig(), speculation="dflash")


def test_plain_decoding_drafts_nothing(plain: Engine) -> None:
    report = generate(plain, "x = 1\n" * 9, SamplingConfig()).speculation
    assert (report.mode, report.acceptance_length, report.by_source) == ("off", 1.0, {})
    assert report.tree_sizes == [report.steps]
