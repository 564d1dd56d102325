"""The whole way: keys, Neovim, the real server, its engine and a real model."""

from pathlib import Path

import pytest

from tests.e2e.conftest import COUNTING
from tests.e2e.neovim.conftest import lua_value
from tests.e2e.neovim.editor import Neovim, find_neovim, missing

pytestmark = [pytest.mark.e2e, pytest.mark.model]


@pytest.mark.parametrize("version", ["0.11", "0.12"])
def test_what_the_model_writes_is_accepted_with_tab(
    version: str, server_command: list[str], tmp_path: Path
) -> None:
    binary = find_neovim(version)
    if binary is None:
        pytest.skip(missing(version))
    path = tmp_path / "counting.py"
    head, last = COUNTING.rsplit("\n", 1)
    path.write_text(head + "\n", encoding="utf-8")
    options = lua_value({"cmd": server_command})
    neovim = Neovim(binary, tmp_path, f"require('flash_lsp').setup({options})")
    try:
        neovim.command(f"edit {path}")
        neovim.wait("require('flash_lsp').status():find('smollm2') ~= nil", "ready model")
        neovim.command("setlocal indentexpr= noautoindent")
        neovim.type(f"Go{last}")
        neovim.wait("require('flash_lsp').visible()", "suggestion")
        assert any(line.startswith(last + "5") for line in neovim.screen())
        neovim.type("<Tab>")
        neovim.wait("vim.api.nvim_buf_get_lines(0, 5, 6, true)[1]:find(': 5') ~= nil", "text")
        neovim.type("<Esc>u")
        neovim.wait(f"vim.api.nvim_get_current_line() == {lua_value(last)}", "undone")
    finally:
        neovim.end()
