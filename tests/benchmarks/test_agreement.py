import numpy as np
import pytest

from benchmarks.agreement import (
    Agreement,
    add_logits,
    add_top_logprobs,
    log_softmax,
    window_nll,
)

N_ROWS, N_VOCAB = 100, 50  # more than one slice of rows


def random_logits(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (3 * rng.standard_normal((N_ROWS, N_VOCAB))).astype(np.float32)


def test_an_engine_agrees_with_itself() -> None:
    agreement, logits = Agreement(), random_logits(0)
    add_logits(agreement, logits, logits + 5)  # a constant changes no probability
    assert (agreement.n_positions, agreement.argmax_share) == (N_ROWS, 1.0)
    assert agreement.mean_kl == pytest.approx(0, abs=1e-6)


def test_divergence_is_the_textbook_sum() -> None:
    reference, logits = random_logits(0), random_logits(1)
    agreement = Agreement()
    add_logits(agreement, reference, logits)
    p, q = np.exp(log_softmax(reference)), np.exp(log_softmax(logits))
    kl = (p * np.log(p / q)).sum(axis=-1)
    assert agreement.mean_kl == pytest.approx(kl.mean())
    assert agreement.kl_max == pytest.approx(kl.max())


def test_a_flipped_pair_is_counted_and_is_clear_only_with_a_lead() -> None:
    reference = np.array([[1.0, 1.1, -9.0], [1.0, 2.0, -9.0]], np.float32)
    logits = reference[:, [1, 0, 2]]
    agreement = Agreement()
    add_logits(agreement, reference, logits)
    assert (agreement.n_same, agreement.n_clear, agreement.n_clear_same) == (0, 1, 0)


def test_the_best_tokens_alone_bound_the_divergence_from_below() -> None:
    reference, logits = random_logits(0), random_logits(1)
    whole, top = Agreement(), Agreement()
    add_logits(whole, reference, logits)
    logprobs = log_softmax(reference)
    best = np.argsort(-logprobs, axis=-1)[:, :8]
    add_top_logprobs(top, best, np.take_along_axis(logprobs, best, axis=-1), logits)
    assert 0 < top.mean_kl < whole.mean_kl
    assert (top.n_same, top.n_clear) == (whole.n_same, whole.n_clear)


def test_likelihood_is_that_of_each_following_token() -> None:
    logits = random_logits(2)
    tokens = np.random.default_rng(3).integers(0, N_VOCAB, N_ROWS)
    logprobs = log_softmax(logits)
    expected = -sum(logprobs[i, tokens[i + 1]] for i in range(N_ROWS - 1))
    assert window_nll(logits, tokens) == pytest.approx(expected)
