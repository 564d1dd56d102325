"""Batch invariance: a row's logits do not depend on what was computed beside it (DESIGN.md 2.3)."""

from pathlib import Path

import numpy as np
import pytest

from engine.session import ROOT
from tests.engine.tiny_model import TinyModel, load_tiny, random_tokens

# Weight types meet in one model as they do in real files.
MIXED = {"attn_v.weight": "Q8_0", "ffn_down.weight": "Q6_K", "output.weight": "Q8_0"}
MODELS = [
    ("qwen2", "Q5_0", MIXED, "f16"),
    ("llama", "Q4_1", {}, "f16"),
    ("qwen2", "Q4_K", MIXED, "q8_0"),
    ("llama", "F16", {}, "f16"),
]


@pytest.fixture(scope="module", params=MODELS, ids=lambda m: f"{m[0]}-{m[1]}-{m[3]}")
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    architecture, quant, quants, kv_type = request.param
    folder = tmp_path_factory.mktemp("model")
    return load_tiny(folder, architecture, quant, quants=quants, kv_type=kv_type)


def in_chunks(tiny: TinyModel, tokens: list[int], sizes: list[int]) -> np.ndarray:
    session = tiny.session()
    rows: list[np.ndarray] = []
    start = 0
    for size in sizes:
        chunk = tokens[start : start + size]
        rows.append(session.append(chunk, n_logits=len(chunk)).logits.copy())
        start += size
    session.release()
    return np.concatenate(rows)


@pytest.mark.parametrize("seed", range(4))
def test_every_split_into_steps_gives_the_same_logits(tiny: TinyModel, seed: int) -> None:
    tokens = random_tokens(96, seed)
    plain = tiny.logits(tokens)
    rng = np.random.default_rng(seed)
    sizes: list[int] = []
    while sum(sizes) < 96:
        sizes.append(min(int(rng.choice([1, 2, 7, 31, 33, 64])), 96 - sum(sizes)))
    np.testing.assert_array_equal(in_chunks(tiny, tokens, sizes), plain)


@pytest.mark.parametrize("seed", range(4))
def test_every_tree_gives_its_paths_the_logits_of_plain_decoding(
    tiny: TinyModel, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    start = random_tokens(int(rng.integers(1, 70)), seed)
    tree = random_tokens(24, seed + 100)
    parents = [int(rng.integers(ROOT, row)) if row else ROOT for row in range(24)]
    session = tiny.session()
    session.append(start)
    found = session.verify(tree, parents).logits.copy()
    session.release()
    for leaf in set(range(24)) - set(parents):
        path: list[int] = []
        row = leaf
        while row != ROOT:
            path.insert(0, row)
            row = parents[row]
        plain = tiny.logits(start + [tree[row] for row in path])
        np.testing.assert_array_equal(found[path], plain[len(start) :])


def test_long_prompts_are_chunked_without_a_trace(tiny: TinyModel) -> None:
    tokens = random_tokens(300)
    session = tiny.session()
    found = session.append(tokens, n_logits=5).logits.copy()
    session.release()
    np.testing.assert_array_equal(found, tiny.logits(tokens)[-5:])


def test_the_thread_count_changes_no_bit(tmp_path: Path) -> None:
    tokens = random_tokens(80)
    results = [
        in_chunks(load_tiny(tmp_path, n_threads=n, quants=MIXED, quant="Q5_0"), tokens, [40, 40])
        for n in (1, 2, 3)
    ]
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])
