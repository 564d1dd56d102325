"""The GPU's kernels on the host (engine/backends/gpu/emulated.py); skipped without a compiler."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.backends.gpu.backend import GpuBackend
from engine.backends.gpu.emulated import EmulatedDriver
from engine.errors import CompileError


@pytest.fixture(scope="session")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GpuBackend]:
    cache: Path = tmp_path_factory.mktemp("kernels")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("platformdirs.user_cache_dir", lambda name: str(cache))
        try:
            backend = GpuBackend(EmulatedDriver())
        except CompileError as error:
            pytest.skip(str(error))
    yield backend
