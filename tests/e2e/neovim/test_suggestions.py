"""Ghost text in real Neovim: shown, typed along, accepted whole and in parts, put away."""

import pytest

from tests.e2e.neovim.conftest import FAREWELLS, MOODS, TABBED, TOTAL, Session

pytestmark = pytest.mark.e2e

HEAD = "def total(items):\n    "
REST = TOTAL.removeprefix(HEAD).rstrip("\n")


def test_a_suggestion_of_several_lines_is_on_the_screen(editor: Session) -> None:
    editor.open(HEAD)
    editor.ghost(REST)
    shown = "\n".join(editor.neovim.screen())
    assert "    amount = 0\n" in shown and "\n        amount += item\n" in shown, shown


def test_tabs_are_shown_as_the_buffer_shows_them(editor: Session) -> None:
    head = TABBED[: TABBED.index("if a")]
    editor.open(head, ".go", after="\n}\n")
    editor.ghost(TABBED.removeprefix(head).removesuffix("\n}\n"))
    shown = [line for line in editor.neovim.screen() if "return a" in line]
    editor.neovim.type("<Tab>")
    editor.text(TABBED)
    written = [line for line in editor.neovim.screen() if "return a" in line]
    assert shown == written


def test_tab_accepts_all_of_it_as_one_undo_step(editor: Session) -> None:
    editor.open("")
    editor.neovim.type("def total(items):<CR>")  # Neovim indents
    editor.ghost(REST)
    before = editor.stats()
    editor.neovim.type("<Tab>")
    editor.text(TOTAL)
    editor.counted("nAccepted", before, 1)
    editor.neovim.type("<Esc>u")
    editor.text(HEAD)
    editor.neovim.type("<C-r>")
    editor.text(TOTAL)


def test_words_are_accepted_one_by_one(editor: Session) -> None:
    editor.open(HEAD)
    before = editor.stats()
    editor.ghost(REST)
    editor.neovim.type("<M-Right>")
    editor.text(HEAD + "amount")
    editor.ghost(REST.removeprefix("amount"))
    editor.neovim.type("<M-Right>")
    editor.text(HEAD + "amount =")
    editor.ghost(REST.removeprefix("amount ="))
    editor.counted("nPartiallyAccepted", before, 2)
    assert editor.stats()["nAccepted"] == before["nAccepted"]


def test_lines_are_accepted_one_by_one(editor: Session) -> None:
    editor.open(HEAD)
    before = editor.stats()
    editor.ghost(REST)
    editor.neovim.type("<M-C-Right>")
    editor.text(HEAD + "amount = 0")
    editor.counted("nPartiallyAccepted", before, 1)
    editor.ghost(REST.removeprefix("amount = 0"))
    editor.neovim.type("<M-C-Right>")
    editor.text(HEAD + "amount = 0\n    for item in items:")
    editor.counted("nPartiallyAccepted", before, 2)


def test_accepted_lengths_count_the_line_ends_of_the_file(editor: Session) -> None:
    editor.open(HEAD, newline="\r\n")
    # Neovim's own ghost text shows the carriage returns.
    editor.ghost(REST if editor.drawer == "plugin" else None)
    before = editor.stats()
    editor.neovim.type("<M-C-Right>")
    editor.counted("nAcceptedChars", before, len("amount = 0"))
    if editor.drawer == "plugin":  # the other one asks anew
        editor.neovim.type("<M-C-Right>")
        editor.counted("nAcceptedChars", before, len("amount = 0\r\n    for item in items:"))
        editor.neovim.type("<Tab>")
        editor.text(TOTAL)
        editor.counted("nAcceptedChars", before, len(REST) + REST.count("\n"))


def test_typing_along_keeps_the_suggestion(editor: Session) -> None:
    editor.open(HEAD)
    editor.ghost(REST)
    before = editor.stats()
    editor.neovim.type("amo")
    editor.ghost(REST.removeprefix("amo"))
    editor.neovim.type("<Tab>")
    editor.text(TOTAL)
    editor.counted("nAccepted", before, 1)


def test_a_suggestion_that_became_wrong_is_hidden(editor: Session) -> None:
    editor.open(HEAD)
    editor.ghost(REST)
    editor.neovim.type("# other")
    editor.gone()
    assert editor.neovim.lua("return require('flash_lsp').accept()") is False


@pytest.mark.parametrize(
    "place", ["moods = ", 'moods = "😀😎", ', 'moods = "😀😎", "naïve 👍", last_of("漢字 ']
)
def test_text_outside_ascii_before_the_cursor(editor: Session, place: str) -> None:
    editor.open(place)
    editor.ghost(MOODS.removeprefix(place).rstrip("\n"))
    editor.neovim.type("<Tab>")
    editor.text(MOODS)


def test_text_after_the_cursor_stays(editor: Session) -> None:
    editor.open('moods = "😀😎", "naïve 👍", last_of("漢字 ', after='")\n')
    editor.ghost("🎉 done")
    editor.neovim.type("<Tab>")
    editor.text(MOODS)


def test_dismissed_and_left_alone_until_asked_for(editor: Session) -> None:
    editor.open(HEAD)
    editor.ghost(REST)
    editor.neovim.type("<C-]>")
    editor.gone()
    assert editor.neovim.mode == "i" and editor.neovim.text == HEAD
    editor.neovim.type(r"<M-\>")
    editor.ghost()


def test_leaving_insert_mode_hides_it(editor: Session) -> None:
    editor.open(HEAD)
    editor.ghost(REST)
    editor.neovim.type("<Esc>")
    editor.gone()


def test_keys_do_what_they_did_when_nothing_is_suggested(editor: Session) -> None:
    editor.open("nothing_to_add_here()\n")
    editor.neovim.type("<Tab>x<C-]>y")
    editor.neovim.wait("vim.api.nvim_get_current_line():match('xy$')", "typed text")
    assert editor.neovim.text.splitlines()[-1] in ("\txy", "    xy", "        xy")


def test_a_tab_mapping_of_the_user_stays_the_fallback(editor: Session) -> None:
    editor.neovim.lua(
        """
        vim.keymap.set('i', '<Tab>', function() return 'from the user' end, { expr = true })
        """
    )
    try:
        editor.open("nothing_to_add_here()\n")
        editor.neovim.type("<Tab>")
        editor.text("nothing_to_add_here()\nfrom the user")
    finally:
        editor.neovim.command("iunmap <Tab>")


def test_what_is_shown_is_reported(editor: Session) -> None:
    before = editor.stats()
    editor.open(HEAD)
    editor.ghost(REST)
    editor.counted("nShown", before, 1)


def test_the_only_candidate_is_followed_by_itself(editor: Session) -> None:
    editor.open(HEAD)
    editor.ghost(REST)
    editor.neovim.type("<M-]>")
    editor.ghost(f"{REST} (1/1)")


def test_one_of_several_is_chosen(editor: Session) -> None:
    first, second = (text.partition("    ")[2].removesuffix("\n") for text in FAREWELLS)
    editor.open(FAREWELLS[0].removesuffix(f"{first}\n"))
    editor.ghost(first)
    editor.neovim.type("<M-]>")
    editor.ghost(f"{second} (2/2)")
    editor.neovim.type("<M-[>")
    editor.ghost(f"{first} (1/2)")
    editor.neovim.type("<M-]>")
    editor.ghost(f"{second} (2/2)")
    editor.neovim.type("<Tab>")
    editor.text(FAREWELLS[1])


def test_the_popup_menu_is_not_disturbed(editor: Session) -> None:
    if editor.drawer == "builtin":
        pytest.skip("what Neovim draws itself beside its popup menu is Neovim's")
    editor.open("amazing = 1\namount = 2\n", after="\n" + HEAD)
    editor.neovim.type("am<C-n>")
    editor.neovim.wait("vim.fn.pumvisible() == 1", "popup menu")
    editor.gone()
    editor.neovim.type("<C-e>")
