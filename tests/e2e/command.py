"""How tests and benchmarks start flash-lsp."""

import sys
from pathlib import Path


def flash_lsp(*arguments: str) -> list[str]:
    """The installed command, else this checkout's: a checkout without a build in it must not hide
    the package that is installed."""
    installed = Path(sys.executable).with_name("flash-lsp")
    command = [str(installed)] if installed.exists() else [sys.executable, "-m", "lsp_server"]
    return [*command, *arguments]
