"""The GPU's kernels on the host (engine/backends/gpu/emulated.py), and vendors' packages over
stand-in drivers; skipped without a compiler."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.backends.gpu.backend import GpuBackend
from tests.gpu.guarded import GuardedDriver
from tests.gpu.standin.libraries import LIBRARIES, PACKAGES, Standin, build, package_folder


@pytest.fixture(scope="session")
def guarded(
    host_compiler: None, tmp_path_factory: pytest.TempPathFactory
) -> tuple[GpuBackend, GuardedDriver]:
    return _guarded(tmp_path_factory.mktemp("kernels"), is_quads=False)


@pytest.fixture(scope="session", params=["rows", "quads"])
def lanes(
    request: pytest.FixtureRequest, host_compiler: None, tmp_path_factory: pytest.TempPathFactory
) -> tuple[GpuBackend, GuardedDriver]:
    """Each way in which the matrix unit's tiles lie in lanes."""
    if request.param == "rows":
        return request.getfixturevalue("guarded")
    return _guarded(tmp_path_factory.mktemp("quads"), is_quads=True)


def _guarded(cache: Path, *, is_quads: bool) -> tuple[GpuBackend, GuardedDriver]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("platformdirs.user_cache_dir", lambda name: str(cache))
        driver = GuardedDriver(is_quads=is_quads)
        backend = GpuBackend(driver)
        backend.kv_cache([], 1, "q8_0")  # whose kernels are compiled when it is made
        return backend, driver


@pytest.fixture
def emulated(guarded: tuple[GpuBackend, GuardedDriver]) -> Iterator[GpuBackend]:
    """Fails a test whose kernels wrote beside a buffer."""
    backend, driver = guarded
    yield backend
    assert driver.damage() == []


@pytest.fixture
def any_lanes(lanes: tuple[GpuBackend, GuardedDriver]) -> Iterator[GpuBackend]:
    """As `emulated`, for tests that are to run whichever way tiles lie in lanes."""
    backend, driver = lanes
    yield backend
    assert driver.damage() == []


@pytest.fixture(scope="session")
def standin_libraries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("standins")
    return {vendor: build(vendor, folder / vendor) for vendor in LIBRARIES}


@pytest.fixture(scope="session", params=PACKAGES)
def standin(
    request: pytest.FixtureRequest,
    standin_libraries: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Standin:
    """Each version of the vendors' packages that is installed, over its stand-in driver."""
    backend = request.param.partition("-")[0]
    package = package_folder(request.param)
    cache = tmp_path_factory.mktemp(request.param)
    return Standin(backend, standin_libraries[backend], package, cache)
