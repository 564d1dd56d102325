"""A window of real VS Code with the extension, and a server that writes what tests want."""

import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from tests.e2e.artifacts import ARTIFACTS
from tests.e2e.vscode.code_server import ROOT, missing, package_extension

if TYPE_CHECKING:
    from tests.e2e.vscode.window import Window

SERVER = ROOT / "tests" / "e2e" / "serve_scripted.py"

# What the scripted engine wants to write, and its answer to every instruction.
GREETING = 'def greet(name):\n    return "Hello, " + name\n'
STORM = "values = [" + ", ".join(f"element_{n}" for n in range(20)) + "]\n"
FAREWELLS = [f'def farewell(name):\n    return "{word}, " + name\n' for word in ("Bye", "So long")]
TALLY = "def tally(counts):\n    amount = 0\n    for count in counts:\n        amount += count\n"
EDITED = "def total(items):\n    return sum(items)\n"


@pytest.fixture(scope="session")
def vsix() -> Path:
    """The packaged extension, where there is an editor to put it into."""
    pytest.importorskip("playwright", reason="Playwright, of the extra `dev`, drives the browser")
    from tests.e2e.vscode.window import find_chromium

    reason = missing()
    if reason is None and find_chromium() is None:
        reason = "no Chromium on PATH; FLASH_LSP_CHROMIUM names one elsewhere"
    if reason is not None:
        pytest.skip(reason)
    return package_extension()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def window(vsix: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator["Window"]:
    from tests.e2e.vscode.window import opened

    folder = tmp_path_factory.mktemp("vscode")
    wants = folder / "wants.json"
    wants.write_text(json.dumps([GREETING, STORM, *FAREWELLS, TALLY]), encoding="utf-8")
    command = [sys.executable, str(SERVER), "--wants", str(wants), "--edit", EDITED]
    settings = {
        "flash-lsp.command": command,
        "editor.wordBasedSuggestions": "currentDocument",  # in the popup, when it is asked for
    }
    async with opened(vsix, folder, settings, last=ARTIFACTS / "vscode-last.png") as window:
        yield window
