"""The memory plan is checked before anything is allocated, and says its arithmetic."""

import pytest

from engine.errors import DeviceMemoryError
from engine.memory import MemoryPlan, available_bytes

MIB = 2**20


def test_a_plan_that_does_not_fit_says_what_needs_how_much() -> None:
    plan = MemoryPlan(weights_bytes=470 * MIB, converted_bytes=0, kv_bytes=600 * MIB)
    with pytest.raises(DeviceMemoryError) as caught:
        plan.check(1000 * MIB)
    message = str(caught.value)
    assert "needs 1070 MiB but 1000 MiB are free" in message
    assert "470 MiB weights + 600 MiB KV cache" in message
    assert "choose a smaller model or context" in message


def test_a_plan_that_fits_passes() -> None:
    plan = MemoryPlan(weights_bytes=10, converted_bytes=20, kv_bytes=30)
    plan.check(60)
    plan.check(None)


def test_this_machine_has_memory() -> None:
    free = available_bytes()
    assert free is None or free > 0
