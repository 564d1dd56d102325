"""The next edit in real VS Code: a name changed where it is defined is changed where it is used."""

from typing import TYPE_CHECKING

import pytest

from tests.e2e.vscode.conftest import ARTIFACTS

if TYPE_CHECKING:
    from tests.e2e.vscode.window import Window

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(600),
]

USED = "\n\ndef report(items):\n    print(totl(items))\n"
BEFORE = "def totl(items):\n    return sum(items)\n" + USED
CHANGED = BEFORE.replace("def totl", "def total")


async def change_the_name(window: "Window", name: str) -> None:
    await window.open(name, BEFORE)
    await window.press("Control+Home", *["ArrowRight"] * len("def tot"))
    await window.type("a")
    await window.decoration("Tab · ")


async def test_it_is_shown_and_taken_with_tab(window: "Window") -> None:
    await change_the_name(window, "taken.py")
    await window.screenshot(ARTIFACTS / "vscode-next-edit.png")
    await window.press("Tab")
    await window.text(CHANGED.replace("totl", "total"))
    await window.press("Control+z")
    await window.text(CHANGED)


async def test_it_is_dismissed_with_escape(window: "Window") -> None:
    await change_the_name(window, "dismissed.py")
    await window.press("Escape")
    await window.no_decoration("Tab · ")
    await window.text(CHANGED)
