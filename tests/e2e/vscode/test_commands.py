"""The extension's commands and its status item in real VS Code."""

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.vscode.conftest import ARTIFACTS, SERVER

if TYPE_CHECKING:
    from tests.e2e.vscode.window import Window

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(600),
]


async def test_completions_are_paused_and_resumed(window: "Window") -> None:
    await window.command("Pause Completions")
    await window.status("paused")
    await window.command("Resume Completions")
    await window.status("fake")


async def test_the_context_is_explained_on_a_page(window: "Window") -> None:
    await window.open("context.py", "def one():\n    return 1\n")
    await window.command("Explain the Context at the Cursor")
    await window.page_says("Context at context.py:3:1")
    await window.screenshot(ARTIFACTS / "vscode-context.png")
    await window.close_editors()


async def test_the_statistics_are_a_page(window: "Window") -> None:
    await window.command("Show Statistics")
    await window.page_says("characters accepted")
    await window.screenshot(ARTIFACTS / "vscode-stats.png")
    await window.close_editors()


async def test_a_server_that_died_is_shown_and_started_again(window: "Window") -> None:
    os.kill(server_pid(window.wants), signal.SIGKILL)
    await window.status("failed")
    await window.message("the server ended with SIGKILL")
    await window.screenshot(ARTIFACTS / "vscode-failed.png")
    await window.press_button("Restart")
    await window.status("fake")


def server_pid(wants: Path) -> int:
    """The process that serves this window."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            arguments = (entry / "cmdline").read_bytes().split(b"\0")
            if os.fsencode(SERVER) in arguments and os.fsencode(wants) in arguments:
                return int(entry.name)
    raise AssertionError(f"no server with {wants}")
