"""The kernels' source as one text, and images of it that are kept between starts."""

import re
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import platformdirs

from engine.backends.gpu.driver import Driver, Function
from engine.disk_cache import DiskCache

_MOST_BYTES = 64 * 2**20
_INCLUDE = re.compile(r'^#include "(\w+\.h)"\n', re.MULTILINE)


def source_folder() -> Path:
    """Where native/gpu lies: in the installed package, or in a checkout."""
    packaged = Path(__file__).parent / "native"
    return packaged if packaged.exists() else Path(__file__).parents[3] / "native" / "gpu"


def kernel_source() -> str:
    """kernels.cu with every header in place, for compilers that see no files."""
    folder, seen = source_folder(), set[str]()

    def insert(match: re.Match[str]) -> str:
        name = match[1]
        if name in seen:
            return ""
        seen.add(name)
        text = (folder / name).read_text("utf-8").replace("#pragma once\n", "")
        return _INCLUDE.sub(insert, text)

    return _INCLUDE.sub(insert, (folder / "kernels.cu").read_text("utf-8"))


def load_kernels(driver: Driver) -> Callable[[str], Function]:
    """Compiles the kernels for the device, or takes the image of an earlier start. Raises
    CompileError."""
    source = kernel_source()
    key = f"{driver.name}\n{driver.arch}\n{driver.compiler()}\n{source}"
    name = sha256(key.encode()).hexdigest()
    folder = Path(platformdirs.user_cache_dir("flash-lsp")) / "kernels"
    cache = DiskCache(folder, ".image", _MOST_BYTES)
    image = cache.read(name, Path.read_bytes)
    if image is None:
        image = driver.compile(source)
        kept = image
        cache.write(name, lambda file: file.write(kept))
    return driver.load(image)
