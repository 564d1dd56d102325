"""Where models run. The rest of the engine knows `Backend` and asks for one here."""

from engine.backends.backend import Backend
from engine.backends.cpu import CpuBackend
from engine.config import EngineConfig


def open_backend(config: EngineConfig) -> Backend:
    """The device that the configuration asks for. Raises NativeError where it is not there."""
    # A GPU's modules are read only where one is asked for.
    if config.backend == "cuda":
        from engine.backends.gpu.backend import GpuBackend
        from engine.backends.gpu.cuda import CudaDriver

        return GpuBackend(CudaDriver())
    if config.backend == "emulated":
        from engine.backends.gpu.backend import GpuBackend
        from engine.backends.gpu.emulated import EmulatedDriver

        return GpuBackend(EmulatedDriver())
    return CpuBackend(config.n_threads, is_exact=config.is_exact)
