"""Ghost text in real VS Code: shown while typing, accepted whole and in parts."""

from typing import TYPE_CHECKING

import pytest

from tests.e2e.vscode.conftest import ARTIFACTS, GREETING

if TYPE_CHECKING:
    from tests.e2e.vscode.window import Window

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(600),
]

TYPED = "def greet(name):\n    ret"


async def test_what_is_offered_while_typing_is_accepted_with_tab(window: "Window") -> None:
    await window.open("whole.py", "def greet(name):\n")
    await window.type("    ret")
    assert (await window.ghost()).startswith('urn "Hello, " + name')
    await window.screenshot(ARTIFACTS / "vscode-ghost.png")
    await window.press("Tab")
    await window.text(GREETING.removesuffix("\n"))
    await window.press("Control+z")
    await window.text(TYPED)


async def test_a_part_is_accepted_word_by_word(window: "Window") -> None:
    await window.open("words.py", "def greet(name):\n")
    await window.type("    ret")
    await window.ghost()
    await window.press("Control+ArrowRight")
    await window.text("def greet(name):\n    return")
    await window.ghost()
    await window.press("Tab")
    await window.text(GREETING.removesuffix("\n"))
