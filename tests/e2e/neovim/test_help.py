"""The help file: its tags are up to date, its links lead somewhere, and it names all there is."""

import re
import shutil
from pathlib import Path

import pytest

from tests.e2e.neovim.conftest import Session
from tests.e2e.neovim.editor import PLUGIN

pytestmark = pytest.mark.e2e

DOC = PLUGIN / "doc"
HELP = (DOC / "flash-lsp.txt").read_text(encoding="utf-8")


def test_the_tags_are_those_of_the_help(editor: Session, tmp_path: Path) -> None:
    shutil.copy(DOC / "flash-lsp.txt", tmp_path)
    editor.neovim.command(f"helptags {tmp_path}")  # raises an error for a tag there is twice
    assert (tmp_path / "tags").read_text() == (DOC / "tags").read_text()


@pytest.mark.parametrize("subject", ["flash-lsp", "flash_lsp-setup", ":FlashLsp-edit"])
def test_help_is_found(editor: Session, subject: str) -> None:
    editor.neovim.type("<Esc>")
    editor.neovim.command(f"help {subject}")
    assert editor.neovim.lua("return vim.fn.expand('%:t')") == "flash-lsp.txt"
    editor.neovim.command("helpclose")


def test_its_links_lead_somewhere(editor: Session) -> None:
    links = set(re.findall(r"\|([^|\s]+)\|", HELP))
    if not editor.neovim.lua("return vim.lsp.inline_completion ~= nil"):
        links -= {"lsp-inline_completion", "hl-ComplHint"}  # of 0.12
    missing = [
        link
        for link in links
        if link not in editor.neovim.lua("return vim.fn.getcompletion(..., 'help')", link)
    ]
    assert links and missing == []


def test_it_names_every_command_function_option_and_key(editor: Session) -> None:
    lua = editor.neovim.lua
    tags = {line.split("\t")[0] for line in (DOC / "tags").read_text().splitlines()}
    commands = lua("return vim.fn.getcompletion('FlashLsp ', 'cmdline')")
    functions = lua("return vim.tbl_keys(require('flash_lsp'))")
    assert {f":FlashLsp-{name}" for name in commands} <= tags
    assert {f"flash_lsp.{name}()" for name in functions} - tags == {"flash_lsp.setup()"}
    defaults = lua("return require('flash_lsp.config').defaults")
    for name in [*defaults, *defaults["keymaps"]]:
        assert re.search(rf"^ +{name} = ", HELP, re.MULTILINE), name
    for name, key in defaults["keymaps"].items():
        mapping = f"<Plug>(flash-lsp-{name.replace('_', '-')})"
        assert re.search(rf"^{re.escape(key)} +{re.escape(mapping)} ", HELP, re.MULTILINE), name
