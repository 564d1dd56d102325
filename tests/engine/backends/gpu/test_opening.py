"""Drivers by name."""

import pytest

from engine.backends import open_backend
from engine.backends.gpu.emulated import EmulatedDriver
from engine.backends.gpu.opening import open_any_driver, open_driver
from engine.config import EngineConfig
from engine.errors import NoDeviceError


def test_the_emulated_driver_is_always_there() -> None:
    assert isinstance(open_driver("emulated"), EmulatedDriver)


@pytest.mark.parametrize("backend", ["hip", "cuda"])
def test_a_gpu_that_is_not_there_is_an_error_where_it_was_asked_for(backend, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, {"hip": "hip", "cuda": "cuda"}[backend], None)
    with pytest.raises(NoDeviceError) as caught:
        open_driver(backend)
    assert caught.value.what
    assert caught.value.do


def test_auto_is_the_processor_where_there_is_no_gpu(monkeypatch) -> None:
    monkeypatch.setattr("engine.backends.gpu.opening.find_spec", lambda name: None)
    assert open_any_driver() is None
    assert open_backend(EngineConfig(model="any", backend="auto")).name.startswith("cpu")


def test_auto_passes_over_a_gpu_that_does_not_open(monkeypatch, caplog) -> None:
    monkeypatch.setattr("engine.backends.gpu.opening.find_spec", lambda name: object())
    monkeypatch.setattr("engine.backends.gpu.opening.Path.exists", lambda path: True)

    def refuse(backend: str):
        raise NoDeviceError(f"{backend} is broken", "mend it")

    monkeypatch.setattr("engine.backends.gpu.opening.open_driver", refuse)
    assert open_any_driver() is None
    assert "cuda is broken; mend it" in caplog.text
    assert "hip is broken; mend it" in caplog.text
