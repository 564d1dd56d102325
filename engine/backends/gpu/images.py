"""Compiled kernels: those that came with the package, those of an earlier start, or new ones."""

import logging
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import platformdirs

from engine.backends.gpu.driver import Driver, Function
from engine.backends.gpu.source import KERNELS, kernel_source, unit_of
from engine.disk_cache import DiskCache
from engine.errors import DeviceLostError, NativeError

OBJECTS = Path(__file__).parent / "objects"
_MOST_BYTES = 64 * 2**20
_DIGEST_BYTES = 32
_log = logging.getLogger("flash_lsp.engine")


def object_name(arch: str, source: str) -> str:
    """What the object of an architecture is called: good for this very source."""
    return f"{arch}-{sha256(source.encode()).hexdigest()[:16]}.hsaco"


def cache_folder() -> Path:
    return Path(platformdirs.user_cache_dir("flash-lsp")) / "kernels"


class Kernels:
    """Functions of native/gpu by name, on the driver's device. Those of a KV cache in q8_0 are
    compiled when the first of them is asked for. Raises CompileError."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._units = {KERNELS: load_kernels(driver)}

    def __call__(self, name: str) -> Function:
        unit = unit_of(name)
        if unit not in self._units:
            self._units[unit] = load_kernels(self._driver, kernel_source(unit))
        return self._units[unit](name)


def load_kernels(
    driver: Driver,
    source: str | None = None,
    *,
    objects: Path = OBJECTS,
    folder: Path | None = None,
) -> Callable[[str], Function]:
    """Functions of native/gpu by name, on the driver's device. Raises CompileError.

    A kept image that the driver refuses is as good as none: the source decides.
    """
    source = kernel_source() if source is None else source
    shipped = objects / object_name(driver.arch, source)
    functions = _accepted(driver, shipped.read_bytes()) if shipped.exists() else None
    return functions or _load_cached(driver, source, folder or cache_folder())


def _accepted(driver: Driver, image: bytes) -> Callable[[str], Function] | None:
    """None for an image that the driver refuses."""
    try:
        return driver.load(image)
    except DeviceLostError:
        raise
    except NativeError as error:
        _log.warning("compiled kernels were refused: %s", error)
        return None


def _load_cached(driver: Driver, source: str, folder: Path) -> Callable[[str], Function]:
    key = "\n".join((driver.name, driver.arch, driver.compiler(), source))
    name = sha256(key.encode()).hexdigest()
    cache = DiskCache(folder, ".image", _MOST_BYTES)
    image = cache.read(name, _checked)
    if image is not None:
        if (functions := _accepted(driver, image)) is not None:
            return functions
        cache.forget(name)
    compiled = driver.compile(source)
    cache.write(name, lambda file: file.write(sha256(compiled).digest() + compiled))
    return driver.load(compiled)


def _checked(path: Path) -> bytes:
    """An image as it was written. Raises ValueError where it is not that any more."""
    content = path.read_bytes()
    digest, image = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    if sha256(image).digest() != digest:
        raise ValueError("its checksum is another")
    return image
