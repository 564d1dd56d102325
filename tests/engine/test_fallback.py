"""When an engine leaves a GPU for the processor."""

import pytest

from engine.config import EngineConfig
from engine.errors import (
    DeviceMemoryError,
    ModelFormatError,
    NativeError,
    NoDeviceError,
    UnsupportedModelError,
)
from engine.fallback import DeviceFallback


def on(backend: str, name: str | None = None) -> DeviceFallback:
    fallback = DeviceFallback(EngineConfig(model="m", n_ctx=99, backend=backend))  # type: ignore[arg-type]
    if name is not None:
        fallback.note_loaded(name)
    return fallback


def test_two_ends_close_together_give_the_gpu_up() -> None:
    fallback = on("cuda", "cuda (H100, sm_90)")
    assert not fallback.note_end(0, "first")
    assert fallback.config.backend == "cuda"
    assert fallback.note_end(599, "second")
    assert fallback.config == EngineConfig(model="m", n_ctx=99, backend="cpu")
    assert "second" in fallback.reason
    # What ends on the processor is no affair of the GPU's.
    assert not fallback.note_end(600, "third")
    assert "third" not in fallback.reason


def test_ends_far_apart_are_accidents() -> None:
    fallback = on("hip", "hip (Radeon, gfx1151)")
    assert not any(fallback.note_end(600.0 * i, "accident") for i in range(5))
    assert fallback.config.backend == "hip"


def test_the_processor_is_never_left() -> None:
    for fallback in (on("cpu"), on("cpu", "cpu (avx2)"), on("auto", "cpu (avx2)")):
        assert not any(fallback.note_end(i, "killed") for i in range(5))
        assert not fallback.note_failed_load(NativeError("op", "broken"))
        assert fallback.reason == ""


LOADS = [
    (NativeError("opening the device", "there is none"), True),
    (NoDeviceError("the driver is missing", "install it"), True),
    (DeviceMemoryError(2, 1, "a small GPU"), True),
    (UnsupportedModelError("weight type", "IQ1_S", ["Q4_K"]), True),
    (ModelFormatError("m.gguf", "cut short"), False),
]


@pytest.mark.parametrize(("error", "is_turned_away"), LOADS, ids=lambda v: type(v).__name__)
def test_a_load_that_the_processor_may_manage_goes_there(error, is_turned_away) -> None:
    fallback = on("cuda")
    assert fallback.note_failed_load(error) == is_turned_away
    assert fallback.config.backend == ("cpu" if is_turned_away else "cuda")
    assert (str(error) in fallback.reason) == is_turned_away


def test_a_reset_tries_the_gpu_again_with_a_clean_record() -> None:
    fallback = on("cuda", "cuda (H100, sm_90)")
    fallback.note_end(0, "lost")
    fallback.note_end(1, "lost")
    fallback.reset()
    assert fallback.config.backend == "cuda"
    assert fallback.reason == ""
    assert not fallback.note_end(2, "lost")
