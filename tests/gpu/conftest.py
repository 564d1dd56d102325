"""The GPU's kernels on the host (engine/backends/gpu/emulated.py), skipped without a compiler, or
on the device that `--gpu` names; and vendors' packages over stand-in drivers."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.backends.gpu.backend import GpuBackend
from tests.gpu.guarded import Guarded, guarded_driver
from tests.gpu.standin.libraries import LIBRARIES, PACKAGES, Standin, build, package_folder


@pytest.fixture(scope="session")
def guarded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[GpuBackend, Guarded]:
    name = request.config.getoption("--gpu")
    if name == "emulated":
        request.getfixturevalue("host_compiler")
    return _guarded(tmp_path_factory.mktemp("kernels"), guarded_driver(name))


@pytest.fixture(scope="session", params=["rows", "quads"])
def lanes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[GpuBackend, Guarded]:
    """Each way in which the matrix unit's tiles lie in lanes; a device has its own."""
    if request.param == "rows" or request.config.getoption("--gpu") != "emulated":
        return request.getfixturevalue("guarded")
    request.getfixturevalue("host_compiler")
    return _guarded(tmp_path_factory.mktemp("quads"), guarded_driver(is_quads=True))


def _guarded(cache: Path, driver: Guarded) -> tuple[GpuBackend, Guarded]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("platformdirs.user_cache_dir", lambda name: str(cache))
        backend = GpuBackend(driver)
        backend.kv_cache([], 1, "q8_0")  # whose kernels are compiled when it is made
        return backend, driver


@pytest.fixture
def emulated(guarded: tuple[GpuBackend, Guarded]) -> Iterator[GpuBackend]:
    """Fails a test whose kernels wrote beside a buffer."""
    backend, driver = guarded
    yield backend
    assert driver.damage() == []


@pytest.fixture
def any_lanes(lanes: tuple[GpuBackend, Guarded]) -> Iterator[GpuBackend]:
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
