"""The whole way: keys, VS Code, the real server, its engine and a real model.

Leaves the pictures that the README shows among the artifacts.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from engine.catalogue import DEFAULT_MODEL
from tests.e2e.command import flash_lsp
from tests.e2e.conftest import MODEL
from tests.e2e.vscode.conftest import ARTIFACTS, ROOT
from tests.models import find_model, require_model

if TYPE_CHECKING:
    from tests.e2e.vscode.window import Window

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.model,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(600),
]

_SAMPLE = ROOT / "examples" / "sample_repo" / "ledger"
_WRITTEN = "Transaction(day, source, target, amount)"  # where the sample has a cursor mark
_TYPED = (
    "",
    "    def largest(self) -> Transaction | None:",
    '        """The transaction of the largest amount, if there is any."""',
)
MEAN = "def mean(items):\n    return sum(items) / len(items)\n"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def window(vsix: Path, tmp_path_factory: pytest.TempPathFactory) -> "AsyncIterator[Window]":
    from tests.e2e.vscode.window import opened

    model = find_model(DEFAULT_MODEL) or require_model(MODEL)
    settings = {
        "flash-lsp.command": flash_lsp(),
        "flashLsp.model": str(model),
        "flashLsp.latencyBudgetMs": 5000,  # all of a text at once
        "workbench.colorTheme": "Default Dark Modern",
    }
    folder = tmp_path_factory.mktemp("vscode-model")
    async with opened(vsix, folder, settings, last=ARTIFACTS / "vscode-model-last.png") as window:
        for path in _SAMPLE.glob("*.py"):
            window.write(path.name, path.read_text("utf-8").replace("▮", _WRITTEN))
        yield window


def squeezed(text: str) -> str:
    """Without white space, which an editor draws in its own ways."""
    return "".join(text.split())


async def test_what_the_model_writes_is_accepted_by_word_and_whole(window: "Window") -> None:
    before = window.read("accounts.py")
    await window.open("accounts.py", before)
    for line in _TYPED:
        await window.type(line)
        await window.press("Enter")
    await window.type(" " * 8)
    ghost = squeezed(await window.ghost())
    await window.settled()
    await window.screenshot(ARTIFACTS / "vscode.png")
    typed = before + "".join(f"{line}\n" for line in _TYPED) + " " * 8
    await window.text(typed)
    await window.ghost()

    await window.press("Control+ArrowRight")
    by_word = await window.saved_after(typed)
    word = squeezed(by_word.removeprefix(typed))
    assert word and ghost.startswith(word)
    await window.ghost()
    await window.press("Tab")
    whole = squeezed((await window.saved_after(by_word)).removeprefix(typed))
    assert whole.startswith(ghost) or ghost.startswith(whole)
    assert len(whole) > len(word)
    await window.press("Control+z")
    await window.text(by_word)


async def test_an_edit_is_seen_applied_and_undone(window: "Window") -> None:
    require_model(DEFAULT_MODEL)  # a smaller one edits nothing well
    await window.open("mean.py", MEAN)
    await window.press("Control+a", "Control+Alt+e")
    await window.answer("add a docstring")
    await window.difference('"""')
    await window.settled()
    await window.screenshot(ARTIFACTS / "vscode-model-edit.png")
    await window.press("Control+Enter")
    await window.no_difference()
    edited = await window.saved_after(MEAN)
    assert edited.startswith("def mean(items):\n") and edited.count('"""') == 2
    assert "return sum(items) / len(items)" in edited
    await window.focus()
    await window.press("Control+z")
    await window.text(MEAN)
