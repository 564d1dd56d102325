"""How tests and benchmarks start flash-lsp: the installed command, else this checkout's.

A checkout without a build in it must not hide the package that is installed.
"""

import sys
from pathlib import Path

_INSTALLED = Path(sys.executable).with_name("flash-lsp")
_ROOT = Path(__file__).parents[2]


def flash_lsp(*arguments: str) -> list[str]:
    command = [str(_INSTALLED)] if _INSTALLED.exists() else [sys.executable, "-m", "lsp_server"]
    return [*command, *arguments]


def source_path() -> dict[str, str]:
    """What the environment of another program needs that is to start that command."""
    return {} if _INSTALLED.exists() else {"PYTHONPATH": str(_ROOT)}
