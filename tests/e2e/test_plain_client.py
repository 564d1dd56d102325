"""The README's plain JSON-RPC script against the real server and model."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import COUNTING_PLACE

pytestmark = [pytest.mark.e2e, pytest.mark.model]

SCRIPT = Path(__file__).parents[2] / "examples" / "plain_client.py"


def run_script(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, timeout=120
    )


def test_a_plain_script_gets_a_completion(server_command: list[str], counting_file: Path) -> None:
    line, character = COUNTING_PLACE
    done = run_script(str(counting_file), str(line + 1), str(character + 1), *server_command)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("5"), done.stdout


def test_the_script_shows_why_the_server_refuses(
    server_command: list[str], counting_file: Path
) -> None:
    done = run_script(str(counting_file), "99", "1", *server_command)
    assert done.returncode == 1
    assert "99" in done.stderr or "line" in done.stderr
