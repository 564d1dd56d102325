"""Where models run. The rest of the engine knows `Backend` and asks for one here."""

from engine.backends.backend import Backend
from engine.config import EngineConfig


def open_backend(config: EngineConfig) -> Backend:
    """The device that the configuration asks for. Raises NoDeviceError where it is not there,
    CompileError where its kernels cannot be had."""
    # A backend's modules are read only where it is asked for.
    if config.backend != "cpu":
        from engine.backends.gpu.backend import GpuBackend
        from engine.backends.gpu.opening import open_any_driver, open_driver

        is_any = config.backend == "auto"
        driver = open_any_driver() if is_any else open_driver(config.backend)
        if driver is not None:
            return GpuBackend(driver)
    from engine.backends.cpu import CpuBackend

    return CpuBackend(config.n_threads, is_exact=config.is_exact)
