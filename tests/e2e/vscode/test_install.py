"""A fresh profile where the server is nowhere: the extension installs what came with it, and the
model after it.

Python and pip are stand-ins that note what they are told; the server they bring is scripted.
"""

import shlex
import sys
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from tests.e2e.vscode.conftest import ARTIFACTS, SERVER

if TYPE_CHECKING:
    from tests.e2e.vscode.window import Window

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(600),
]

# The environment's Python has the server once pip has run, which fails at its first try.
_PYTHON = """\
#!/bin/sh
here=$(dirname "$0")
echo "$*" >> {log}
case "$*" in
    *"import lsp_server") [ -e "$here/installed" ] ;;
    "-I -c "*) exit 0 ;;
    "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
    "-m pip install --upgrade "*)
        [ -e "$here/tried" ] || {{ touch "$here/tried"; echo "no compiler"; exit 1; }}
        touch "$here/installed" ;;
    *"models list --json")
        path=null; [ -e "$here/model" ] && path='"/model.gguf"'
        echo '{{"models": [{{"name": "qwen2.5-coder-0.5b", "path": '$path', "bytes": 491000000,' \
            '"licence": "Apache-2.0"}}]}}' ;;
    *"models fetch qwen2.5-coder-0.5b") touch "$here/model" ;;
    *serve) exec {server} serve ;;
    *) exit 2 ;;
esac
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "python.log"


@pytest_asyncio.fixture(loop_scope="session")
async def bare(vsix: Path, tmp_path: Path, log: Path) -> "AsyncIterator[Window]":
    from tests.e2e.vscode.window import opened

    python = tmp_path / "bin" / "python3"
    python.parent.mkdir()
    server = shlex.join([sys.executable, str(SERVER)])
    python.write_text(_PYTHON.format(log=shlex.quote(str(log)), server=server), "utf-8")
    python.chmod(0o755)
    # VS Code asks the login shell for the PATH.
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / ".profile").write_text(f"PATH={python.parent}:$PATH\n", "utf-8")
    environment = {"SHELL": "/bin/sh", "PYTHONPATH": ""}
    last = ARTIFACTS / "vscode-install-last.png"
    async with opened(
        *(vsix, tmp_path / "code", {}), last=last, status="install", environment=environment
    ) as window:
        yield window


async def is_started_twice(log: Path) -> bool:
    fetched, _, later = log.read_text("utf-8").partition("models fetch")
    return "lsp_server serve" in fetched and "lsp_server serve" in later


async def test_the_server_is_installed_and_started(bare: "Window", log: Path) -> None:
    await bare.message("the server was not found")
    await bare.press_button("Install")
    await bare.confirm("Install the flash-lsp server?", "Install")
    await bare.message("the installation failed; the terminal says why")
    await bare.status("install")
    await bare.screenshot(ARTIFACTS / "vscode-install.png")
    await bare.command("Install the Server")
    await bare.confirm("Install the flash-lsp server?", "Install")
    await bare.status("fake")
    await bare.message("completions need the model qwen2.5-coder-0.5b, 491 MB once")
    await bare.press_button("Download")
    await bare.until(lambda: is_started_twice(log), "a start with the model")
    await bare.status("fake")
    *_, archive = next(
        line for line in log.read_text("utf-8").splitlines() if " pip " in line
    ).split()
    with tarfile.open(archive) as packed:
        assert any(name.endswith("/pyproject.toml") for name in packed.getnames())
