"""A workspace nobody trusts yet: its Python is not started before the user says so."""

import shlex
import sys
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

MARKER = "was-started"


@pytest_asyncio.fixture(loop_scope="session")
async def untrusted(vsix: Path, tmp_path: Path) -> "AsyncIterator[Window]":
    from tests.e2e.vscode.window import opened

    settings = {
        "security.workspace.trust.enabled": True,
        "security.workspace.trust.startupPrompt": "never",
    }
    # Nothing else on this machine has the server.
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": ""}
    last = ARTIFACTS / "vscode-trust-last.png"
    async with opened(
        *(vsix, tmp_path, settings), last=last, status="install", environment=environment
    ) as window:
        yield window


def write_python(workspace: Path) -> Path:
    """A Python of the workspace that has the server, and leaves a mark where it was started."""
    python = workspace / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    marker = workspace / MARKER
    server = shlex.join([sys.executable, str(SERVER)])
    python.write_text(
        f'#!/bin/sh\ntouch {marker}\ncase "$*" in *serve) exec {server} serve;; esac\n', "utf-8"
    )
    python.chmod(0o755)
    return marker


async def test_its_python_is_started_only_after_trust(untrusted: "Window") -> None:
    marker = write_python(untrusted.workspace)
    await untrusted.message("the server was not found")
    await untrusted.command("Restart the Server")
    await untrusted.status("install")
    assert not marker.exists()
    await untrusted.command("Manage Workspace Trust")
    await untrusted.page.locator(
        ".workspace-trust-editor .monaco-button", has_text="Trust"
    ).first.click()
    await untrusted.status("fake")
    assert marker.exists()
