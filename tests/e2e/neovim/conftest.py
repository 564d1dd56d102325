"""One Neovim for each version found and each way suggestions are drawn; one file for each test."""

import itertools
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.neovim.editor import Neovim, find_neovim, missing

SERVER = Path(__file__).parents[1] / "serve_scripted.py"

# What the scripted engine wants to write; a test opens the beginning of one.
TOTAL = """\
def total(items):
    amount = 0
    for item in items:
        amount += item
    return amount
"""
MOODS = 'moods = "😀😎", "naïve 👍", last_of("漢字 🎉 done")\n'
TABBED = "func sum(a int) int {\n\tif a > 0 {\n\t\treturn a\n\t}\n\treturn 0\n}\n"
STORM = "values = [" + ", ".join(f"element_{n}" for n in range(40)) + "]\n"
FAREWELLS = [f'def farewell(name):\n    return "{word}, " + name\n' for word in ("Bye", "So long")]
WANTED = (TOTAL, MOODS, TABBED, STORM, *FAREWELLS)
EDITED = "def total(items):\n    return sum(items)\n"

_VARIANTS = [("0.11", "plugin"), ("0.12", "builtin"), ("0.12", "plugin")]

_GHOST = """
(function()
  local names = vim.api.nvim_get_namespaces()
  for _, name in ipairs({ 'flash_lsp.ghost', 'nvim.lsp.inline_completion' }) do
    local marks = names[name]
      and vim.api.nvim_buf_get_extmarks(0, names[name], 0, -1, { details = true }) or {}
    if marks[1] then
      local lines = { marks[1][4].virt_text, unpack(marks[1][4].virt_lines or {}) }
      return table.concat(vim.tbl_map(function(chunks)
        return table.concat(vim.tbl_map(function(chunk) return chunk[1] end, chunks))
      end, lines), '\\n')
    end
  end
end)()
"""


def lua_value(value: Any) -> str:
    """A Lua expression for plain data."""
    return f"vim.json.decode([==[{json.dumps(value)}]==])"


@dataclass
class Session:
    """A Neovim with the plugin in it and a server that wants to write `WANTED`."""

    neovim: Neovim
    drawer: str
    folder: Path
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    def open(self, text: str, suffix: str = ".py", after: str = "", newline: str = "\n") -> None:
        """Edit a new file with the cursor, in insert mode, at the end of `text`."""
        path = self.folder / f"file{next(self._numbers)}{suffix}"
        path.write_text(text + (after or "\n"), encoding="utf-8", newline=newline)
        self.neovim.type("<Esc>")
        self.neovim.command(f"edit! {path}")
        self.neovim.wait(
            "vim.lsp.get_clients({ name = 'flash_lsp', bufnr = 0 })[1] ~= nil", "server attached"
        )
        self.neovim.wait("require('flash_lsp').state().state == 'ready'", "engine ready")
        row, col = text.count("\n") + 1, len(text.rpartition("\n")[2].encode())
        end = len((text + after).split("\n")[row - 1].encode())
        self.neovim.lua("vim.api.nvim_win_set_cursor(0, { ... })", row, col)
        self.neovim.type("A" if col == end else "i")
        self.neovim.wait("vim.api.nvim_get_mode().mode == 'i'", "insert mode")

    def ghost(self, expected: str | None = None) -> str:
        """The suggestion on the screen, once there is one, or once it is the expected one."""
        if expected is None:
            return self.neovim.wait(_GHOST, "suggestion")
        literal = lua_value(expected)
        return self.neovim.wait(f"{_GHOST} == {literal} and {literal}", f"'{expected}' suggested")

    def gone(self) -> None:
        self.neovim.wait(f"{_GHOST} == nil", "end of the suggestion")

    def text(self, expected: str) -> None:
        """Wait for the buffer to be this; Neovim has no line for the last line end."""
        lines = lua_value(expected.removesuffix("\n").split("\n"))
        present = "vim.api.nvim_buf_get_lines(0, 0, -1, true)"
        self.neovim.wait(f"vim.deep_equal({present}, {lines})", f"text {expected!r}")

    def stats(self) -> dict[str, Any]:
        return self.neovim.lua(
            "return vim.lsp.get_clients({ name = 'flash_lsp' })[1]"
            ":request_sync('flash/stats', nil, 5000).result"
        )

    def counted(self, name: str, before: dict[str, Any], n: int) -> None:
        """Wait until the server has counted so much more."""
        self.neovim.wait(
            "vim.lsp.get_clients({ name = 'flash_lsp' })[1]"
            f":request_sync('flash/stats', nil, 5000).result.{name} == {before[name] + n}",
            f"{n} more of {name}",
        )


def start_session(
    version: str, drawer: str, folder: Path, options: dict[str, Any] | None = None
) -> Session:
    binary = find_neovim(version)
    if binary is None:
        pytest.skip(missing(version))
    wants = folder / "wants.json"
    wants.write_text(json.dumps(WANTED), encoding="utf-8")
    command = [sys.executable, str(SERVER), "--wants", str(wants), "--edit", EDITED]
    chosen = {"cmd": command, "ghost_text": drawer, **(options or {})}
    init = f"require('flash_lsp').setup({lua_value(chosen)})"
    return Session(Neovim(binary, folder, init), drawer, folder)


@pytest.fixture(scope="session", params=_VARIANTS, ids=lambda variant: "-".join(variant))
def editor(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Session]:
    session = start_session(*request.param, tmp_path_factory.mktemp("neovim"))
    yield session
    session.neovim.end()
