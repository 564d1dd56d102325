"""A drafter's word against what became of it."""

import numpy as np
import pytest

from engine.speculation.calibration import BlockCalibration
from engine.speculation.draft import BlockDraft


def block(*shares: float, n_depths: int = 1) -> BlockDraft:
    ids = np.tile(np.arange(len(shares), dtype=np.int32), (n_depths, 1))
    return BlockDraft(ids, np.log(np.tile(np.array(shares, np.float32), (n_depths, 1))))


def test_a_drafter_is_taken_at_its_word_at_first() -> None:
    draft = block(0.6, 0.2, 0.01, n_depths=3)
    corrected = BlockCalibration().corrected(draft)
    np.testing.assert_allclose(corrected.log_probs, draft.log_probs, rtol=1e-6)
    np.testing.assert_array_equal(corrected.ids, draft.ids)


@pytest.mark.parametrize(("claimed", "actual"), [(0.8, 0.4), (0.3, 0.6), (0.2, 0.02)])
def test_what_is_claimed_is_corrected_by_what_happens(claimed: float, actual: float) -> None:
    calibration, rng = BlockCalibration(), np.random.default_rng(0)
    draft = block(claimed)
    for _ in range(3000):
        calibration.observe(draft, [0 if rng.random() < actual else 9])
    corrected = np.exp(calibration.corrected(draft).log_probs[0, 0])
    assert corrected == pytest.approx(actual, rel=0.25)


def test_depths_below_a_token_of_other_sources_are_not_judged() -> None:
    calibration = BlockCalibration()
    draft = block(0.5, 0.3, n_depths=4)
    assert calibration.observe(draft, [1, 0, 77, 0, 0]) == 3
    assert calibration.observe(draft, [77, 0]) == 1
    assert calibration.observe(draft, [0, 0]) == 2
    assert calibration.observe(draft, [0] * 9) == 4


def test_nothing_becomes_certain() -> None:
    calibration = BlockCalibration()
    for _ in range(5000):
        calibration.observe(block(0.9), [0])
    assert calibration.corrected(block(0.9)).log_probs[0, 0] < 0
