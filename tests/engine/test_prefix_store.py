"""States of prompts on disk: the same tokens after a restart, and no trust in damaged files."""

from pathlib import Path

import numpy as np
import pytest

from engine.cancel import CancelToken
from engine.config import EngineConfig
from engine.engine import Engine
from engine.prefix_store import LEAST_TOKENS, PrefixStore
from engine.request import GenerateRequest, GenerateResult, PromptPart
from tests.tiny_gguf import write_tiny_gguf

TEXT = "def add(a, b):\n    return a + b\n\n\nclass Value:\n    name = None\n" * 8


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_gguf(tmp_path_factory.mktemp("model") / "tiny.gguf", "qwen2", "Q8_0")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(tmp_path))
    return tmp_path


def load(model: Path, **options: object) -> Engine:
    options.setdefault("prefix_disk_bytes", 2**24)
    return Engine.load(EngineConfig(model=str(model), n_threads=1, **options))  # type: ignore[arg-type]


def generate(engine: Engine, text: str, *, keep: bool = False) -> GenerateResult:
    request = GenerateRequest(prompt=(PromptPart(text),), max_tokens=12, keep=keep)
    return engine.generate(request, CancelToken())


@pytest.mark.parametrize("kv_type", ["f16", "q8_0"])
def test_a_restarted_engine_goes_on_from_what_was_kept(model: Path, kv_type: str):
    expected = generate(load(model, prefix_disk_bytes=0, kv_type=kv_type), TEXT + "x = ")
    kept = generate(load(model, kv_type=kv_type), TEXT, keep=True)
    assert len(kept.prompt_tokens) >= LEAST_TOKENS
    again = generate(load(model, kv_type=kv_type), TEXT + "x = ")
    assert again.n_cached >= len(kept.prompt_tokens) - 1
    assert again.tokens == expected.tokens


def test_only_what_asks_for_it_is_kept(model: Path, cache: Path):
    generate(load(model), TEXT)
    assert list(cache.glob("prefixes/*/*")) == []
    generate(load(model, prefix_disk_bytes=0), TEXT, keep=True)
    assert list(cache.glob("prefixes/*/*")) == []


@pytest.mark.parametrize("at", [0, 40, -1])
def test_a_damaged_state_is_forgotten_not_resumed(model: Path, cache: Path, at: int):
    expected = generate(load(model), TEXT, keep=True)
    (path,) = cache.glob("prefixes/*/*")
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    found = generate(load(model), TEXT + "x")
    assert found.n_cached == 0
    assert not path.exists()
    assert generate(load(model), TEXT).tokens == expected.tokens


def test_another_kind_of_state_is_not_taken_for_this_one(model: Path):
    generate(load(model, kv_type="q8_0"), TEXT, keep=True)
    assert generate(load(model, kv_type="f16"), TEXT).n_cached == 0


def state(value: int) -> np.ndarray:
    return np.repeat(np.array([value, value + 1], np.uint8), 64)


def test_the_longest_prefix_is_found_and_the_oldest_goes_first(tmp_path: Path):
    store = PrefixStore(tmp_path, "m", 2 * (128 + 32))
    tokens = list(range(400))
    for n in (130, 200, 300):
        store.save(tokens[:n], lambda n=n: state(n % 100))
    assert store.longest(tokens, 400) == 300
    assert store.longest(tokens, 299) == 200
    assert store.longest(tokens, 199) == 0  # gone: the budget holds two
    assert store.longest([1, *tokens], 400) == 0
    again = PrefixStore(tmp_path, "m", 2 * (128 + 32))
    np.testing.assert_array_equal(again.load(tokens[:200], 128), state(0))
    assert again.n_bytes <= 2 * (128 + 32)


def test_a_folder_that_cannot_be_written_costs_only_the_disk(tmp_path: Path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    store = PrefixStore(blocked, "m", 2**20)
    store.save(list(range(200)), lambda: state(1))
    assert store.longest(list(range(200)), 200) == 0
