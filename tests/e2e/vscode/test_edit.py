"""An edit with an instruction in real VS Code: the difference is seen, applied and undone."""

from typing import TYPE_CHECKING

import pytest

from tests.e2e.vscode.conftest import ARTIFACTS, EDITED

if TYPE_CHECKING:
    from tests.e2e.vscode.window import Window

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(600),
]

BEFORE = "def total(items):\n    amount = 0\n    for item in items:\n        amount += item\n"
AFTER = "    return amount\n"
WHOLE = BEFORE + AFTER


async def ask(window: "Window", name: str) -> None:
    await window.open(name, WHOLE)
    await window.press("Control+a", "Control+Alt+e")
    await window.answer("use the sum builtin")


async def test_the_difference_is_applied_as_one_undo_step(window: "Window") -> None:
    await ask(window, "applied.py")
    await window.difference("    return sum(items)")
    await window.screenshot(ARTIFACTS / "vscode-edit.png")
    await window.press("Control+Enter")
    await window.no_difference()
    await window.text(EDITED)
    await window.focus()
    await window.press("Control+z")
    await window.text(WHOLE)


async def test_a_difference_that_is_dropped_changes_nothing(window: "Window") -> None:
    await ask(window, "dropped.py")
    await window.difference("    return sum(items)")
    await window.press("Escape")
    await window.no_difference()
    await window.text(WHOLE)


async def test_an_answer_that_changes_nothing_is_said(window: "Window") -> None:
    await window.open("same.py", EDITED)
    await window.press("Control+a", "Control+Alt+e")
    await window.answer("use the sum builtin")
    await window.message("nothing was changed")
    await window.no_difference()


async def test_a_code_action_shows_its_difference_first(window: "Window") -> None:
    await window.open("action.py", WHOLE)
    await window.press("Control+Home", "Control+.")
    await window.choose_action("Edit with an instruction")
    await window.answer("use the sum builtin")
    await window.difference("    return sum(items)")
    await window.press("Escape")
    await window.no_difference()
