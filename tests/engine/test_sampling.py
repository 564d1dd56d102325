import math

import numpy as np
import pytest

from engine.backends.likeliest import likeliest
from engine.config import SamplingConfig
from engine.errors import NativeError, RequestError
from engine.sampling import Sampler, validate


def sampling(**options) -> SamplingConfig:
    """Sampling with every filter off but those named."""
    return SamplingConfig(**{"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, **options})


def f32(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)


def random_logits(seed: int, n: int, *, has_ties: bool = False) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(0, 3, n)
    return (np.round(logits) if has_ties else logits).astype(np.float32)


# The oracle: plain Python over (id, logit) pairs, straight from SamplingConfig's docstring.


def softmax(logits: list[float]) -> list[float]:
    best = max(logits)
    weights = [math.exp(logit - best) for logit in logits]
    return [weight / math.fsum(weights) for weight in weights]


def oracle(logits: np.ndarray, config: SamplingConfig, allowed=None) -> dict[int, float]:
    ids = range(len(logits)) if allowed is None else sorted(set(allowed))
    ranked = sorted(((float(logits[id]), id) for id in ids), key=lambda pair: (-pair[0], pair[1]))
    if config.top_k:
        ranked = ranked[: config.top_k]
    kept, reached = [], 0.0
    for pair, probability in zip(ranked, softmax([logit for logit, _ in ranked]), strict=True):
        if reached >= config.top_p and config.top_p < 1:
            break
        kept.append(pair)
        reached += probability
    probabilities = softmax([logit for logit, _ in kept])
    kept = [
        pair
        for pair, probability in zip(kept, probabilities, strict=True)
        if probability >= config.min_p * max(probabilities) * (1 - 1e-12)
    ]
    heated = softmax([logit / config.temperature for logit, _ in kept])
    return {id: probability for (_, id), probability in zip(kept, heated, strict=True)}


GREEDY = [
    (f32(1, 3, 2), None, 1),
    (f32(5, 5, 5), None, 0),
    (f32(1, 7, 7, 7), None, 1),
    (f32(9, 1, 2), [1, 2], 2),
    (f32(9, 2, 4, 4), [2, 3], 2),
    (f32(-math.inf, -1, -math.inf), None, 1),
    (f32(-math.inf, -1, 0), [0, 1], 1),
]


@pytest.mark.parametrize(("logits", "allowed", "expected"), GREEDY)
def test_greedy_takes_the_best_allowed_and_the_lowest_id_among_equals(logits, allowed, expected):
    sampler = Sampler(SamplingConfig(temperature=0, top_k=1, min_p=1))
    assert sampler.is_greedy
    assert sampler.pick(logits, None if allowed is None else np.array(allowed)) == expected


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("bad", [f32(1, math.nan, 2), f32(-math.inf, -math.inf), f32(0, math.inf)])
def test_logits_that_are_no_numbers_are_an_error_and_not_a_token(temperature, bad):
    with pytest.raises(NativeError, match="expected a finite number"):
        Sampler(sampling(temperature=temperature)).pick(bad)


CONFIGS = [
    sampling(),
    sampling(top_k=1),
    sampling(top_k=5),
    sampling(top_k=10_000),
    sampling(top_p=0.9),
    sampling(top_p=0.01),
    sampling(min_p=0.05),
    sampling(min_p=1.0),
    sampling(temperature=0.3),
    sampling(temperature=5.0),
    sampling(temperature=0.7, top_k=8, top_p=0.8, min_p=0.1),
    SamplingConfig(temperature=1.0),
]


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@pytest.mark.parametrize("has_ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_the_distribution_is_the_one_the_filters_define(config, has_ties, seed):
    logits = random_logits(seed, 300, has_ties=has_ties)
    rng = np.random.default_rng(seed)
    for allowed in (None, np.sort(rng.permutation(300)[:40]), np.array([7]), np.array([1, 3])):
        ids, probabilities = Sampler(config).distribution(logits, allowed)
        expected = oracle(logits, config, allowed)
        assert ids.tolist() == sorted(expected)
        np.testing.assert_allclose(probabilities, [expected[id] for id in ids], rtol=1e-9)
        assert probabilities.sum() == pytest.approx(1, abs=1e-12)


FEW = [
    SamplingConfig(temperature=1.0),
    sampling(top_k=1),
    sampling(temperature=3.0, top_k=64),
    sampling(temperature=0.7, top_k=8, top_p=0.8, min_p=0.1),
    sampling(temperature=1e-300, top_k=40, top_p=0.9),
    sampling(temperature=50.0, top_k=40, min_p=0.001),
]


@pytest.mark.parametrize("config", FEW, ids=str)
@pytest.mark.parametrize("n", [5, 64, 300, 20_000])
@pytest.mark.parametrize("has_ties", [False, True])
def test_the_best_are_drawn_from_as_all_of_them_are(config, n, has_ties):
    of_all, of_best = Sampler(config), Sampler(config)
    for seed in range(40):
        logits = random_logits(seed, n, has_ties=has_ties)
        logits[logits == 0] = (-0.0, 0.0)[seed % 2]
        ids, best = likeliest(logits[None], of_best.n_candidates)
        expected, found = of_all.distribution(logits), of_best.distribution_of(ids[0], best[0])
        np.testing.assert_array_equal(found.ids, expected.ids)
        np.testing.assert_array_equal(found.probabilities, expected.probabilities)
        assert of_best.pick_among(ids[0], best[0]) == of_all.pick(logits)
    assert of_best._generator.random() == of_all._generator.random()


@pytest.mark.parametrize(
    ("config", "n"),
    [
        (SamplingConfig(), None),
        (sampling(), None),
        (sampling(top_k=65), None),
        (sampling(top_k=64), 64),
        (SamplingConfig(temperature=0.1), 40),
    ],
)
def test_few_are_enough_where_no_more_may_be_drawn(config, n):
    assert Sampler(config).n_candidates == n


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_best_that_is_no_number_is_an_error(bad):
    with pytest.raises(NativeError, match="expected a finite number"):
        Sampler(sampling(top_k=2)).pick_among(np.array([3, 1]), f32(bad, -math.inf))


def test_the_filters_look_at_the_model_and_only_then_comes_the_temperature():
    logits = np.log(f32(0.6, 0.3, 0.1))
    ids, probabilities = Sampler(sampling(temperature=100.0, top_p=0.7)).distribution(logits)
    assert ids.tolist() == [0, 1], "heated first, all three would be needed to reach 0.7"
    np.testing.assert_allclose(probabilities, [0.5, 0.5], atol=0.01)


def test_top_p_counts_what_top_k_left():
    logits = np.log(f32(0.4, 0.3, 0.2, 0.1))
    # 0.4 / 0.7 = 0.57 suffices for 0.55 among the best two, not among all four.
    assert Sampler(sampling(top_k=2, top_p=0.55)).distribution(logits).ids.tolist() == [0]
    assert Sampler(sampling(top_p=0.55)).distribution(logits).ids.tolist() == [0, 1]


@pytest.mark.parametrize("temperature", [1e-300, 5e-324, 1e-3, 1e300])
@pytest.mark.parametrize("scale", [1.0, 1e4, 3e38])
def test_extreme_numbers_neither_overflow_nor_warn(temperature, scale):
    logits = f32(-1, 1, 0.5) * np.float32(scale)
    _, probabilities = Sampler(sampling(temperature=temperature)).distribution(logits)
    assert np.isfinite(probabilities).all()
    assert probabilities.sum() == pytest.approx(1)
    assert Sampler(sampling(temperature=1e-300)).pick(logits) == 1


def test_ids_of_probability_zero_are_never_drawn():
    sampler = Sampler(sampling())
    logits = f32(-math.inf, 0, -math.inf, 0, -math.inf)
    assert {sampler.pick(logits) for _ in range(500)} == {1, 3}


class Fixed:
    """A random generator that always draws the same number."""

    def __init__(self, value: float) -> None:
        self.value = value

    def random(self) -> float:
        return self.value


@pytest.mark.parametrize(
    ("drawn", "expected"),
    [(0.0, 1), (0.2499, 1), (0.25, 3), (0.9999, 3), (math.nextafter(1, 0), 3), (1.0, 3)],
)
def test_the_ends_of_the_drawn_interval_fall_on_possible_ids(drawn, expected):
    sampler = Sampler(sampling())
    sampler._generator = Fixed(drawn)
    logits = f32(-math.inf, 0, -math.inf, math.log(3), -math.inf)
    assert sampler.pick(logits) == expected


def test_the_same_seed_gives_the_same_ids_and_another_seed_others():
    logits = [random_logits(i, 100) for i in range(50)]

    def draw(seed: int) -> list[int]:
        sampler = Sampler(sampling(temperature=2.0, seed=seed))
        return [sampler.pick(row) for row in logits]

    assert draw(7) == draw(7)
    assert len({tuple(draw(seed)) for seed in range(5)}) == 5


def test_seeded_ids_are_the_same_on_every_machine():
    sampler = Sampler(SamplingConfig(temperature=1.0, seed=42))
    # PCG64(42) draws 0.7740, 0.4389, 0.8586, 0.6974, 0.0942: quarters 3, 1, 3, 2, 0 of four equals.
    assert [sampler.pick(f32(0, 0, 0, 0)) for _ in range(5)] == [3, 1, 3, 2, 0]


def chi_square_limit(dof: int) -> float:
    """The value exceeded with probability 1e-4 (Wilson and Hilferty's approximation)."""
    return dof * (1 - 2 / (9 * dof) + 3.719 * math.sqrt(2 / (9 * dof))) ** 3


def chi_square(config: SamplingConfig, expected: dict[int, float], n_draws: int) -> float:
    sampler = Sampler(config)
    counts = dict.fromkeys(expected, 0)
    for _ in range(n_draws):
        counts[sampler.pick(LOGITS)] += 1
    return sum((counts[id] - n_draws * p) ** 2 / (n_draws * p) for id, p in expected.items())


LOGITS = random_logits(3, 12) / 2
STATISTICAL = [
    sampling(temperature=2.0),
    sampling(temperature=4.0, top_k=6),
    sampling(temperature=3.0, top_p=0.99),
    sampling(temperature=3.0, min_p=0.001),
    sampling(temperature=1.5, top_k=8, top_p=0.99, min_p=0.001),
]


@pytest.mark.parametrize("config", STATISTICAL, ids=str)
def test_draws_follow_the_exact_distribution(config):
    expected = oracle(LOGITS, config)
    assert len(expected) >= 3
    statistic = chi_square(config, expected, n_draws=5000)
    assert statistic < chi_square_limit(len(expected) - 1)


def test_the_statistical_test_notices_a_slightly_wrong_temperature():
    wrong = oracle(LOGITS, sampling(temperature=2.2))
    statistic = chi_square(sampling(temperature=2.0), wrong, n_draws=5000)
    assert statistic > chi_square_limit(len(wrong) - 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -1.0}, "sampling.temperature is -1.0, expected a number of at least 0"),
        ({"temperature": math.nan}, "sampling.temperature is nan"),
        ({"temperature": math.inf}, "sampling.temperature is inf"),
        ({"top_k": -1}, "sampling.top_k is -1, expected at least 0, where 0 means no limit"),
        ({"top_p": 0.0}, "sampling.top_p is 0.0, expected above 0 and at most 1"),
        ({"top_p": 1.5}, "sampling.top_p is 1.5"),
        ({"top_p": math.nan}, "sampling.top_p is nan"),
        ({"min_p": -0.1}, "sampling.min_p is -0.1, expected between 0 and 1"),
        ({"min_p": 1.1}, "sampling.min_p is 1.1"),
        ({"seed": -1}, "sampling.seed is -1, expected at least 0"),
    ],
)
def test_a_setting_outside_its_range_is_named_with_what_is_expected(options, message):
    with pytest.raises(RequestError, match=message.replace(".", r"\.")):
        validate(SamplingConfig(**options))
    with pytest.raises(RequestError):
        Sampler(SamplingConfig(**options))
