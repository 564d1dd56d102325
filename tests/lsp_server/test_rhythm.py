import pytest

from lsp_server.rhythm import TypingRhythm

CAP_S = 0.075


def typed(*intervals: float) -> tuple[TypingRhythm, float]:
    rhythm, now_s = TypingRhythm(), 100.0
    rhythm.note_key(now_s)
    for interval in intervals:
        now_s += interval
        rhythm.note_key(now_s)
    return rhythm, now_s


def test_an_unknown_rhythm_gets_the_longest_wait() -> None:
    assert TypingRhythm().wait_s(1.0, CAP_S) == CAP_S
    rhythm, now_s = typed(0.01, 0.01)
    assert rhythm.wait_s(now_s, CAP_S) == CAP_S


def test_fast_keys_are_waited_for_a_little_longer_than_they_take() -> None:
    rhythm, now_s = typed(*[0.03] * 6)
    assert 0.03 < rhythm.wait_s(now_s, CAP_S) < 0.05
    assert rhythm.wait_s(now_s + 0.03, CAP_S) == pytest.approx(rhythm.wait_s(now_s, CAP_S) - 0.03)
    assert rhythm.wait_s(now_s + 1.0, CAP_S) == 0


def test_a_key_that_would_come_after_the_wait_is_not_waited_for() -> None:
    rhythm, now_s = typed(*[0.2] * 6)
    assert rhythm.wait_s(now_s, CAP_S) == 0


def test_a_pause_ends_a_rhythm() -> None:
    rhythm, now_s = typed(*[0.03] * 6, 5.0)
    assert rhythm.wait_s(now_s, CAP_S) == CAP_S


def test_one_slow_key_changes_little() -> None:
    rhythm, now_s = typed(*[0.03] * 6, 0.8, *[0.03] * 2)
    assert 0 < rhythm.wait_s(now_s, CAP_S) < 0.05
