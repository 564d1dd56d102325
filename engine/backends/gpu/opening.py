"""Opens the driver that a configuration names, or says why there is none."""

import importlib
import logging
from importlib.util import find_spec
from pathlib import Path

from engine.backends.gpu.discovery import discover
from engine.backends.gpu.driver import Driver
from engine.errors import NativeError, NoDeviceError

_DRIVERS = {
    "hip": ("engine.backends.gpu.hip", "HipDriver"),
    "cuda": ("engine.backends.gpu.cuda", "CudaDriver"),
    "emulated": ("engine.backends.gpu.emulated", "EmulatedDriver"),
}
# What must be there before a vendor's package is worth importing: it costs a tenth of a second.
_SIGNS = {"cuda": ("cuda", "/dev/nvidiactl"), "hip": ("hip", "/dev/kfd")}
_log = logging.getLogger("flash_lsp.engine")


def open_driver(backend: str) -> Driver:
    """The driver of "hip", "cuda" or "emulated". Raises NoDeviceError with what to do, or
    DeviceLostError."""
    module, name = _DRIVERS[backend]
    try:
        return getattr(importlib.import_module(module), name)()
    # The packages raise RuntimeError, or a class of it, where their library is missing.
    except (ImportError, RuntimeError, NativeError) as error:
        for problem in discover().problems:
            if problem.backend in (backend, ""):
                raise NoDeviceError(f"{problem.what} ({error})", problem.do) from error
        raise NoDeviceError(f"{backend}: {error}", "see what flash-lsp doctor says") from error


def open_any_driver() -> Driver | None:
    """The first GPU there is, if one can be used; never takes long where there is none."""
    for backend, (package, device_file) in _SIGNS.items():
        if find_spec(package) is None or not Path(device_file).exists():
            continue
        try:
            return open_driver(backend)
        except NoDeviceError as error:
            _log.warning("%s", error)
    return None
