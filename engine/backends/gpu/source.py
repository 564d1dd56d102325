"""The kernels' sources as one text each, for compilers that see no files."""

import re
from pathlib import Path

from engine.config import KvCacheType

# All kernels, and once more those of a KV cache, for one in q8_0 (native/gpu/kv.h).
KERNELS, Q8_KERNELS = "kernels.cu", "kernels_q8.cu"
UNITS = (KERNELS, Q8_KERNELS)
_Q8 = "_q8"
_INCLUDE = re.compile(r'^#include "(\w+\.h)"\n', re.MULTILINE)


def kernel_of(name: str, kv_type: KvCacheType) -> str:
    """What a kernel that reads or writes a KV cache is called."""
    return name if kv_type == "f16" else name + _Q8


def unit_of(kernel: str) -> str:
    """The file that a kernel is compiled from."""
    return Q8_KERNELS if kernel.endswith(_Q8) else KERNELS


def source_folder() -> Path:
    """Where native/gpu lies: in the installed package, or in a checkout."""
    packaged = Path(__file__).parent / "native"
    return packaged if packaged.exists() else Path(__file__).parents[3] / "native" / "gpu"


def kernel_source(name: str = KERNELS) -> str:
    """A file of native/gpu with every header it needs in place."""
    folder, seen = source_folder(), set[str]()

    def insert(match: re.Match[str]) -> str:
        header = match[1]
        if header in seen:
            return ""
        seen.add(header)
        text = (folder / header).read_text("utf-8").replace("#pragma once\n", "")
        return _INCLUDE.sub(insert, text)

    text = (folder / name).read_text("utf-8").replace("#pragma once\n", "")
    return _INCLUDE.sub(insert, text)
