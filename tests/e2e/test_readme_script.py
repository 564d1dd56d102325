"""The plain Python of the README against the real server."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.command import flash_lsp
from tests.e2e.conftest import COUNTING_PLACE
from tests.readme import ROOT, code_blocks
from tests.tiny_gguf import write_tiny_gguf

pytestmark = pytest.mark.e2e

(SCRIPT,) = code_blocks("README.md", "python")


def run_script(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_it_has_thirty_lines_at_most() -> None:
    assert len(SCRIPT.splitlines()) <= 30


@pytest.fixture(scope="module")
def tiny_server(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The real server and engine with a tiny model of random weights."""
    model = tmp_path_factory.mktemp("model") / "tiny.gguf"
    write_tiny_gguf(model, "qwen2", "Q8_0", n_ctx=2048)
    return flash_lsp("serve", "--model", str(model), "--threads", "1")


def test_it_gets_a_completion(tiny_server: list[str], tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text("def add(a, b):\n    \n", encoding="utf-8")
    done = run_script(str(path), "2", "5", *tiny_server)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip(), done.stderr


def test_it_shows_why_the_server_refuses(tiny_server: list[str], counting_file: Path) -> None:
    done = run_script(str(counting_file), "99", "1", *tiny_server)
    assert done.returncode == 1
    assert "textDocument/inlineCompletion: " in done.stderr and "line" in done.stderr


@pytest.mark.model
def test_a_model_of_code_counts_on(server_command: list[str], counting_file: Path) -> None:
    line, character = COUNTING_PLACE
    done = run_script(str(counting_file), str(line + 1), str(character + 1), *server_command)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("5"), done.stdout
