"""The scorer's queries, keys and shares against float64 references that share no code."""

from pathlib import Path

import numpy as np
import pytest

from engine.backends.attention_shares import attention_shares
from engine.cancel import CancelToken
from engine.config import EngineConfig
from engine.engine import Engine
from engine.pflash.scorer import probe_of
from engine.request import Segment, SelectRequest
from tests.reference_model import ReferenceModel, softmax
from tests.tiny_gguf import write_tiny_gguf


@pytest.fixture(scope="module", params=["llama", "qwen2"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    return write_tiny_gguf(folder / "tiny.gguf", request.param, "F32")


def test_queries_and_keys_are_those_of_the_reference(model: Path):
    engine = Engine.load(EngineConfig(model=str(model), n_threads=2))
    scorer, reference = engine.scorer, ReferenceModel(model)
    ids = np.random.default_rng(3).integers(0, 256, 200).tolist()
    found = scorer.probe(ids, n_queries=70)
    for i, layer in enumerate(probe_of(reference.n_layers).layers):
        queries, keys = reference.queries_keys(ids, layer)
        expected = queries.transpose(1, 0, 2)[-70:]
        np.testing.assert_allclose(found.queries[:, i], expected, atol=0.03 * abs(expected).max())
        expected = keys.transpose(1, 0, 2)
        np.testing.assert_allclose(found.keys[:, i], expected, atol=0.03 * abs(expected).max())
    again = scorer.probe(ids, n_queries=70)
    np.testing.assert_array_equal(again.keys, found.keys)
    np.testing.assert_array_equal(again.queries, found.queries)


@pytest.mark.parametrize(("n_head", "n_kv"), [(4, 4), (6, 2), (5, 1)])
def test_shares_are_the_mean_softmax_over_rows_and_heads(n_head: int, n_kv: int):
    rng = np.random.default_rng(n_head)
    queries = rng.standard_normal((70, 2, n_head, 16)).astype(np.float32) * 3
    keys = [rng.standard_normal((n, 2, n_kv, 16)).astype(np.float16) for n in (30, 1, 200)]
    found = attention_shares(queries, keys, 1, 0.25)
    joined = np.concatenate(keys)[:, 1].astype(np.float64).repeat(n_head // n_kv, axis=1)
    scores = np.einsum("thd,nhd->thn", queries[:, 1].astype(np.float64), joined) * 0.25
    np.testing.assert_allclose(found, softmax(scores).mean(axis=(0, 1)), rtol=1e-3)
    assert found.sum() == pytest.approx(1.0, rel=1e-5)


def test_joint_and_incremental_agree_where_there_is_one_segment_and_nothing_before_it(model: Path):
    engine = Engine.load(EngineConfig(model=str(model), n_threads=1))
    segment = Segment(text="def add(a, b):\n    return a + b\n\n\nx = value\n" * 4)
    requests = [
        SelectRequest(query="n = add(", segments=(segment,), budget_tokens=60, scorer=method)
        for method in ("joint", "incremental")
    ]
    joint, incremental = (engine.select(request, CancelToken()) for request in requests)
    assert len(joint.spans[0]) > 1
    assert joint.total_tokens == incremental.total_tokens
    assert joint.kept_tokens > 0
