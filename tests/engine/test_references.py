"""Our logits against llama.cpp's, on fixed real code, for both architectures.

Two references per model, because an engine that rounds activations to 8 bits cannot agree with
another one everywhere: with only its attention computed another way, llama.cpp itself changes its
most likely token at 3 of 100 positions of the small model. Where no activation is rounded
(llama.cpp on an F32 copy of the weights, ours with `is_exact`) nearly all positions must agree;
with rounding, ours must agree with llama.cpp about as well as llama.cpp does with itself.
"""

from dataclasses import dataclass
from math import exp
from pathlib import Path

import numpy as np
import pytest

from benchmarks.agreement import Agreement, add_top_logprobs, window_nll
from benchmarks.references.reference_file import Reference, reference_text
from engine.config import EngineConfig
from engine.engine import Engine
from tests.models import find_model

pytestmark = pytest.mark.model

REFERENCES = Path(__file__).parents[1] / "data" / "references"

# Perplexity is taken over every n-th of the 40 windows; all of them take minutes on a larger model.
WINDOW_STEPS = {"smollm2-135m": 1, "qwen2.5-coder-0.5b": 4}


@dataclass(frozen=True)
class Case:
    """One model file and both references for it."""

    model: Path
    window_step: int
    published: Reference
    exact: Reference


@pytest.fixture(scope="module", params=WINDOW_STEPS)
def case(request: pytest.FixtureRequest) -> Case:
    name = request.param
    model = find_model(name)
    if model is None:
        pytest.skip(f"the model {name} is not here; fetch it with: flash-lsp models fetch {name}")
    published = Reference.load(REFERENCES / f"{name}.npz")
    exact = Reference.load(REFERENCES / f"{name}-f32.npz")
    return Case(model, WINDOW_STEPS[name], published, exact)


def load(model: Path, *, is_exact: bool = False) -> Engine:
    return Engine.load(
        EngineConfig(model=str(model), n_ctx=512, prefix_cache_bytes=0, is_exact=is_exact)
    )


def measure(engine: Engine, reference: Reference, windows: list[int]) -> tuple[Agreement, float]:
    """Agreement where the reference keeps logits, and our perplexity divided by the reference's."""
    agreement, nll, n_predicted = Agreement(), 0.0, 0
    for window_idx in windows:
        token_ids = reference.token_ids[window_idx]
        logits = engine.logits(token_ids.tolist())
        nll += window_nll(logits, token_ids)
        n_predicted += len(token_ids) - 1
        rows = reference.rows_of(window_idx)
        if rows is not None:
            top_ids, top_logprobs = reference.top_ids[rows], reference.top_logprobs[rows]
            add_top_logprobs(agreement, top_ids, top_logprobs, logits)
    return agreement, exp((nll - float(reference.nll[windows].sum())) / n_predicted)


def test_real_code_gets_the_token_ids_of_llama_cpp(case: Case) -> None:
    engine = load(case.model)
    expected = case.published.token_ids.ravel().tolist()
    assert engine.tokenizer.encode(reference_text(REFERENCES))[: len(expected)] == expected


def test_unrounded_logits_are_those_of_llama_cpp(case: Case) -> None:
    reference = case.exact
    engine = load(case.model, is_exact=True)
    agreement, perplexity_ratio = measure(engine, reference, list(range(len(reference.nll))))
    assert agreement.n_positions >= 2000
    assert agreement.argmax_share >= 0.995
    assert agreement.mean_kl < 1e-4
    assert perplexity_ratio == pytest.approx(1, abs=0.001)


def test_rounded_logits_agree_as_well_as_llama_cpp_does_with_itself(case: Case) -> None:
    reference, about = case.published, case.published.about
    every_nth = range(0, len(reference.nll), case.window_step)
    windows = sorted({*every_nth, *reference.logits_windows.tolist()})
    agreement, perplexity_ratio = measure(load(case.model), reference, windows)
    assert agreement.n_positions >= 2000
    assert perplexity_ratio == pytest.approx(1, abs=0.005)
    assert agreement.mean_kl < 1.5 * about["own_mean_kl"]
    assert agreement.argmax_share > about["own_argmax_share"] - 0.015
    assert agreement.clear_argmax_share >= 0.995


def test_references_are_about_the_same_tokens(case: Case) -> None:
    kept = case.published.token_ids[case.published.logits_windows]
    np.testing.assert_array_equal(kept, case.exact.token_ids)
    assert case.published.about["sha256"] == case.exact.about["sha256"]
