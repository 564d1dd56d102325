"""Ghost text in real VS Code: shown while typing, accepted whole and in parts."""

from typing import TYPE_CHECKING

import pytest

from tests.e2e.vscode.conftest import ARTIFACTS, FAREWELLS, GREETING, STORM, TALLY

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


async def accept_a_word_and_the_rest(window: "Window") -> None:
    await window.ghost()
    await window.press("Control+ArrowRight")
    await window.text("def greet(name):\n    return")
    await window.ghost()
    await window.press("Tab")
    await window.text(GREETING.removesuffix("\n"))


async def test_a_part_is_accepted_word_by_word(window: "Window") -> None:
    await window.open("words.py", "def greet(name):\n")
    await window.type("    ret")
    await accept_a_word_and_the_rest(window)


async def test_the_server_hears_what_became_of_suggestions(window: "Window") -> None:
    before = await window.counts()
    await window.open("counted.py", TYPED)
    # Asked for once: a suggestion that stays while it is typed is counted with what was typed.
    await window.press("Alt+Backslash")
    await accept_a_word_and_the_rest(window)
    await window.counted(
        before,
        {
            "accepted": 1,
            "accepted in parts": 1,
            "characters accepted": len('urn "Hello, " + name'),  # the word's rest is offered anew
        },
    )
    assert (await window.counts())["shown"] > before["shown"]


async def test_one_of_several_is_chosen(window: "Window") -> None:
    first, second = (text.partition("    ")[2].removesuffix("\n") for text in FAREWELLS)
    await window.open("cycled.py", FAREWELLS[0].partition("return")[0])
    await window.press("Alt+Backslash")
    await window.ghost_is(first)
    await window.press("Alt+BracketRight")
    await window.ghost_is(second)
    await window.screenshot(ARTIFACTS / "vscode-candidates.png")
    await window.press("Alt+BracketLeft")
    await window.ghost_is(first)
    await window.press("Alt+BracketRight")
    await window.ghost_is(second)
    await window.press("Tab")
    await window.text(FAREWELLS[1].removesuffix("\n"))


async def test_what_the_popup_has_selected_is_gone_on_with(window: "Window") -> None:
    await window.open("selected.py", TALLY.removesuffix("amount += count\n"))
    await window.type("am")
    await window.press("Control+Space")
    await window.popup("amount")
    await window.ghost_is("ount += count")
    await window.screenshot(ARTIFACTS / "vscode-popup.png")
    await window.press("Tab")
    await window.ghost_is(" += count")
    await window.press("Tab")
    await window.text(TALLY.removesuffix("\n"))


async def test_a_storm_of_keys_leaves_the_text_as_typed(window: "Window") -> None:
    typed = STORM[: len(STORM) // 2]
    await window.open("storm.py", "")
    await window.page.keyboard.type(typed, delay=33)
    ghost = await window.ghost()
    await window.text(typed)
    assert STORM.removeprefix(typed).startswith(ghost.strip("\n"))
