"""The kernels' source as one text, for compilers that see no files."""

import re
from pathlib import Path

_INCLUDE = re.compile(r'^#include "(\w+\.h)"\n', re.MULTILINE)


def source_folder() -> Path:
    """Where native/gpu lies: in the installed package, or in a checkout."""
    packaged = Path(__file__).parent / "native"
    return packaged if packaged.exists() else Path(__file__).parents[3] / "native" / "gpu"


def kernel_source(name: str = "kernels.cu") -> str:
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
