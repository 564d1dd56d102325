"""Compiled kernels: those that came with the package, those of an earlier start, or new ones."""

import logging
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import platformdirs

from engine.backends.gpu.driver import Driver, Function
from engine.backends.gpu.source import kernel_source
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
    for image in _kept_images(driver, source, objects):
        try:
            return driver.load(image)
        except DeviceLostError:
            raise
        except NativeError as error:
            _log.warning("compiled kernels were refused: %s", error)
    return _load_cached(driver, source, cache_folder() if folder is None else folder)


def _kept_images(driver: Driver, source: str, objects: Path) -> Iterator[bytes]:
    path = objects / object_name(driver.arch, source)
    if path.exists():
        yield path.read_bytes()


def _load_cached(driver: Driver, source: str, folder: Path) -> Callable[[str], Function]:
    key = "\n".join((driver.name, driver.arch, driver.compiler(), source))
    name = sha256(key.encode()).hexdigest()
    cache = DiskCache(folder, ".image", _MOST_BYTES)
    image = cache.read(name, _checked)
    if image is not None:
        try:
            return driver.load(image)
        except DeviceLostError:
            raise
        except NativeError as error:
            _log.warning("compiled kernels were refused: %s", error)
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
