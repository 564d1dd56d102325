"""The memory plan is checked before anything is allocated, and says its arithmetic."""

from pathlib import Path

import pytest

from engine.errors import DeviceMemoryError
from engine.memory import MemoryPlan, available_bytes
from tests.engine.tiny_model import load_tiny

MIB = 2**20


def test_a_plan_that_does_not_fit_says_what_needs_how_much() -> None:
    plan = MemoryPlan(
        weights_bytes=470 * MIB, converted_bytes=0, kv_bytes=590 * MIB, scratch_bytes=10 * MIB
    )
    with pytest.raises(DeviceMemoryError) as caught:
        plan.check(1000 * MIB)
    message = str(caught.value)
    assert "needs 1070 MiB but 1000 MiB are free" in message
    assert "470 MiB weights + 590 MiB KV cache + 10 MiB scratch" in message
    assert "choose a smaller model or context" in message


def test_a_plan_that_fits_passes() -> None:
    plan = MemoryPlan(weights_bytes=10, converted_bytes=20, kv_bytes=30)
    plan.check(60)
    plan.check(None)


def test_this_machine_has_memory() -> None:
    free = available_bytes()
    assert free is None or free > 0


def test_smaller_kv_numbers_keep_more_prompts_in_the_same_memory(tmp_path: Path) -> None:
    wide = load_tiny(tmp_path).loaded
    narrow = load_tiny(tmp_path, kv_type="q8_0").loaded
    n_for_context = 512 // 32 + 2
    assert narrow.block_bytes < 0.6 * wide.block_bytes
    assert narrow.n_blocks - n_for_context > 1.7 * (wide.n_blocks - n_for_context)
    assert narrow.memory_bytes < wide.memory_bytes  # for the context itself takes less
