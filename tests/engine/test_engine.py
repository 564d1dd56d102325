"""The engine end to end on a tiny model: what a request asks for is what comes out."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from engine.cancel import CancelToken
from engine.config import EngineConfig, SamplingConfig
from engine.engine import Engine
from engine.errors import ContextOverflowError, DeviceMemoryError, ModelNotFoundError, RequestError
from engine.request import FinishReason, GenerateRequest, GenerateResult, LoadProgress, PromptPart
from tests.tiny_gguf import write_tiny_gguf

TEXT = "def add(a, b):\n    return a + b\n\n\nclass Value:\n    name = None\n" * 3


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_gguf(tmp_path_factory.mktemp("model") / "tiny.gguf", "qwen2", "Q8_0")


@pytest.fixture(scope="module")
def engine(model: Path) -> Engine:
    return Engine.load(EngineConfig(model=str(model), n_threads=2, prefix_cache_bytes=2**22))


def generate(
    engine: Engine, text: str = TEXT, *, on_text: object = None, **options: object
) -> GenerateResult:
    options.setdefault("max_tokens", 24)
    parts = options.pop("prompt", (PromptPart(text),))
    request = GenerateRequest(prompt=parts, **options)  # type: ignore[arg-type]
    return engine.generate(request, CancelToken(), on_text)  # type: ignore[arg-type]


def test_greedy_text_follows_the_logits_one_token_at_a_time(engine: Engine) -> None:
    result = generate(engine)
    ids = list(result.prompt_tokens)
    for token in result.tokens:
        assert token == int(engine.logits(ids, rows="last")[0].argmax())
        ids.append(token)
    assert result.text == engine.tokenizer.decode(result.tokens)


def test_a_cached_prefix_changes_no_token(model: Path) -> None:
    warm = Engine.load(EngineConfig(model=str(model), n_threads=1, prefix_cache_bytes=2**22))
    texts = [TEXT, TEXT + "x = 1\n", TEXT[:70] + "y", TEXT, TEXT[:33]]
    for text in texts:
        fresh = Engine.load(EngineConfig(model=str(model), n_threads=1, prefix_cache_bytes=0))
        cold = generate(fresh, text)
        found = generate(warm, text)
        assert (found.tokens, found.text) == (cold.tokens, cold.text)
        assert cold.n_cached == 0
    assert generate(warm, TEXT).n_cached == len(warm.tokenizer.encode(TEXT)) - 1


def test_the_cache_stays_within_its_budget(model: Path) -> None:
    budget = 2**18
    engine = Engine.load(EngineConfig(model=str(model), n_threads=1, prefix_cache_bytes=budget))
    for n in range(12):
        generate(engine, f"value {n} " * 20)
        assert engine.stats().cache_bytes <= budget
    assert engine.stats().cache_entries > 0


def test_pieces_add_up_to_the_text(engine: Engine) -> None:
    pieces: list[str] = []
    result = generate(engine, on_text=lambda piece: pieces.append(piece) or True)
    assert "".join(pieces) == result.text


def test_the_same_seed_gives_the_same_text_and_another_one_does_not(engine: Engine) -> None:
    def tokens(seed: int) -> list[int]:
        sampling = SamplingConfig(temperature=1.5, top_k=0, top_p=1.0, seed=seed)
        return generate(engine, sampling=sampling).tokens

    assert tokens(1) == tokens(1)
    assert len({tuple(tokens(seed)) for seed in range(5)}) > 1


def test_special_names_in_a_file_are_plain_text(engine: Engine) -> None:
    name = "<|fim_middle|>"
    special = engine.tokenizer.encode_special(name)
    forged = engine.encode_prompt((PromptPart(f"x = '{name}'"),)).ids
    meant = engine.encode_prompt((PromptPart(name, is_special=True),)).ids
    assert special not in forged
    assert meant == [special]


def test_an_unknown_special_token_is_refused(engine: Engine) -> None:
    with pytest.raises(RequestError, match="no_such"):
        generate(engine, prompt=(PromptPart("<|no_such|>", is_special=True),))


@pytest.mark.parametrize("text", ["def add(a, b):\n    ret", "class Val", "x = 1\n        ", "é"])
def test_healing_decides_the_last_token_anew(engine: Engine, text: str) -> None:
    prompt = engine.encode_prompt((PromptPart(text, heal=True),))
    assert prompt.healed and text.encode().endswith(prompt.healed)
    result = generate(engine, prompt=(PromptPart(text, heal=True),))
    spelled = b"".join(engine.tokenizer.token_bytes(token) for token in result.tokens)
    assert spelled.startswith(prompt.healed)
    assert spelled[len(prompt.healed) :].decode(errors="replace") == result.text


def test_two_healed_parts_are_refused(engine: Engine) -> None:
    with pytest.raises(RequestError, match="at most one"):
        generate(engine, prompt=(PromptPart("a", heal=True), PromptPart("b", heal=True)))


def test_an_empty_prompt_is_a_beginning(engine: Engine) -> None:
    assert len(generate(engine, "").prompt_tokens) == 1


def test_a_prompt_beyond_the_context_is_refused_with_both_numbers(engine: Engine) -> None:
    n_tokens = len(engine.tokenizer.encode(TEXT * 20))
    with pytest.raises(ContextOverflowError, match=f"{n_tokens + 1} tokens .* context of 512"):
        generate(engine, TEXT * 20)


def test_generation_ends_at_the_context(engine: Engine) -> None:
    text = "a b c " * 60
    n_prompt = len(engine.tokenizer.encode(text))
    result = generate(engine, text, max_tokens=10_000)
    assert n_prompt + len(result.tokens) <= 512


@pytest.mark.parametrize("max_tokens", [0, -1])
def test_a_request_for_nothing_is_refused(engine: Engine, max_tokens: int) -> None:
    with pytest.raises(RequestError, match="expected at least 1"):
        generate(engine, max_tokens=max_tokens)


def test_a_passed_deadline_returns_what_there_is(engine: Engine) -> None:
    result = generate(engine, deadline_ms=0.001)
    assert result.finish_reason is FinishReason.DEADLINE


def test_cancelling_ends_a_request_and_spares_the_next(engine: Engine) -> None:
    cancel = CancelToken()
    request = GenerateRequest(prompt=(PromptPart(TEXT),), max_tokens=100_000)

    def slow(_: str) -> bool:
        time.sleep(0.01)
        return True

    threading.Timer(0.1, cancel.cancel).start()
    started = time.monotonic()
    result = engine.generate(request, cancel, slow)
    assert result.finish_reason in (FinishReason.CANCELLED, FinishReason.STOP)
    assert time.monotonic() - started < 5
    assert generate(engine).tokens


def test_a_request_cancelled_before_it_began_computes_nothing(engine: Engine) -> None:
    cancel = CancelToken()
    cancel.cancel()
    result = engine.generate(GenerateRequest(prompt=(PromptPart("new " * 30),)), cancel)
    assert (result.finish_reason, result.tokens) == (FinishReason.CANCELLED, [])


def test_all_logits_equal_the_last_ones(engine: Engine) -> None:
    ids = engine.tokenizer.encode(TEXT)[:100]
    everything = engine.logits(ids)
    assert everything.shape == (len(ids), engine.info.n_vocab)
    np.testing.assert_array_equal(engine.logits(ids[:40], rows="last")[0], everything[39])


def test_loading_reports_progress_in_order(model: Path) -> None:
    seen: list[LoadProgress] = []
    Engine.load(EngineConfig(model=str(model), n_threads=1), seen.append)
    fractions = [progress.fraction for progress in seen]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)


def test_a_missing_model_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="flash-lsp models fetch qwen2.5-coder-0.5b"):
        Engine.load(EngineConfig(model="qwen2.5-coder-0.5b", models_dir=str(tmp_path)))


def test_a_cache_that_cannot_fit_is_refused_with_the_arithmetic(model: Path) -> None:
    config = EngineConfig(model=str(model), n_threads=1, prefix_cache_bytes=2**45)
    with pytest.raises(DeviceMemoryError, match="KV cache"):
        Engine.load(config)


@pytest.mark.parametrize("n_ctx", [0, 100_000])
def test_a_context_the_model_does_not_have_is_refused(model: Path, n_ctx: int) -> None:
    with pytest.raises(RequestError, match="expected 1..512"):
        Engine.load(EngineConfig(model=str(model), n_ctx=n_ctx))
