"""`:FlashLsp edit` in real Neovim: a preview of the difference, applied as one undo step."""

import pytest

from tests.e2e.neovim.conftest import EDITED, TOTAL, Session

pytestmark = pytest.mark.e2e

BEFORE = "import os\n\n\n"
AFTER = "\n\nprint(total([1]))\n"
WHOLE = BEFORE + TOTAL + AFTER
SHOWN = "table.concat(vim.api.nvim_buf_get_lines(0, 0, -1, true), '\\n')"


@pytest.fixture
def previewed(editor: Session) -> Session:
    """The difference is shown and waits for an answer."""
    editor.open(WHOLE.removesuffix("\n"))
    editor.neovim.type("<Esc>")
    editor.neovim.command("4,8FlashLsp edit use the sum builtin")
    editor.neovim.wait(f"vim.bo.syntax == 'diff' and {SHOWN}:find('^@@') ~= nil", "difference")
    return editor


def test_the_difference_is_shown(previewed: Session) -> None:
    shown = previewed.neovim.text
    assert "\n+    return sum(items)" in shown and "\n-    amount = 0\n" in shown
    assert "use the sum builtin: <CR> applies, q drops" in "\n".join(previewed.neovim.screen())
    previewed.neovim.type("q")
    previewed.text(WHOLE)


def test_it_is_applied_as_one_undo_step(previewed: Session) -> None:
    previewed.neovim.type("<CR>")
    previewed.text(BEFORE + EDITED + AFTER)
    previewed.neovim.type("u")
    previewed.text(WHOLE)


def test_a_text_that_changed_meanwhile_is_left_alone(previewed: Session) -> None:
    previewed.neovim.lua(
        "vim.api.nvim_buf_set_lines(vim.fn.bufnr('#'), 0, 1, true, { 'import re' })"
    )
    previewed.neovim.type("<CR>")
    previewed.text(WHOLE.replace("import os", "import re"))
    said = (
        "vim.api.nvim_exec2('messages', { output = true }).output:find('another one by now') ~= nil"
    )
    previewed.neovim.wait(said, "message")


def test_an_answer_that_changes_nothing_is_said(editor: Session) -> None:
    editor.open(EDITED.removesuffix("\n"))
    editor.neovim.type("<Esc>")
    editor.neovim.command("%FlashLsp edit use the sum builtin")
    said = "vim.api.nvim_exec2('messages', { output = true }).output:match('flash%-lsp: [^\\n]*$')"
    assert "nothing" in editor.neovim.wait(said, "message")
    editor.text(EDITED)


def test_without_an_instruction_one_is_asked_for(editor: Session) -> None:
    editor.open(WHOLE.removesuffix("\n"))
    editor.neovim.type("<Esc>:4,8FlashLsp edit<CR>")
    editor.neovim.wait("vim.api.nvim_get_mode().mode == 'c'", "prompt")
    editor.neovim.type("use the sum builtin<CR>")
    editor.neovim.wait(f"vim.bo.syntax == 'diff' and {SHOWN}:find('^@@') ~= nil", "difference")
    editor.neovim.type("<CR>")
    editor.text(BEFORE + EDITED + AFTER)
