"""A picture of what Neovim shows: the grid it draws for a user interface, as a PNG.

python -m tests.e2e.neovim.screenshot docs/images/neovim.png --models-dir "$(flash-lsp models path)"
"""

import argparse
import shlex
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from tests.e2e.neovim.conftest import lua_value
from tests.e2e.neovim.editor import ROOT, Neovim, find_neovim, missing

_FONT_PX = 17
_LINE_PX = 22
_MARGIN_PX = 14
_FONTS = {False: "DejaVuSansMono.ttf", True: "DejaVuSansMono-Bold.ttf"}
_SIZE = (88, 24)  # columns and lines
_DARK, _LIGHT = 0x14161B, 0xE0E2EA

# A file of the sample repository, and what its author types at its end.
_SAMPLE = ROOT / "examples" / "sample_repo"
_FILE = "ledger/accounts.py"
_WRITTEN = "Transaction(day, source, target, amount)"  # where the sample has a cursor mark
TYPED = '''
    def largest(self) -> Transaction | None:
        """The transaction of the largest amount, if there is any."""'''


@dataclass
class Grid:
    """The cells of the screen, from Neovim's `ui-linegrid` events (see :help ui-linegrid)."""

    cells: list[list[tuple[str, int]]] = field(default_factory=list)
    attributes: dict[int, dict[str, Any]] = field(default_factory=lambda: {0: {}})
    cursor: tuple[int, int] = (0, 0)
    foreground: int = _LIGHT
    background: int = _DARK

    def redraw(self, events: list[list[Any]]) -> None:
        for name, *calls in events:
            handler: Callable[..., None] | None = getattr(self, f"on_{name}", None)
            for arguments in calls if handler else ():
                handler(*arguments)

    def on_grid_resize(self, _grid: int, columns: int, lines: int) -> None:
        self.cells = [[(" ", 0)] * columns for _ in range(lines)]

    def on_grid_clear(self, grid: int) -> None:
        self.on_grid_resize(grid, len(self.cells[0]), len(self.cells))

    def on_default_colors_set(self, foreground: int, background: int, *_: int) -> None:
        # -1 leaves the colour to the user interface.
        self.foreground = foreground if foreground >= 0 else _LIGHT
        self.background = background if background >= 0 else _DARK

    def on_hl_attr_define(self, number: int, attributes: dict[str, Any], *_: Any) -> None:
        self.attributes[number] = attributes

    def on_grid_cursor_goto(self, _grid: int, row: int, column: int) -> None:
        self.cursor = (row, column)

    def on_grid_line(
        self, _grid: int, row: int, column: int, cells: list[list[Any]], *_: Any
    ) -> None:
        number = 0
        for text, *more in cells:
            number = more[0] if more else number  # as the cell before
            for _ in range(more[1] if len(more) > 1 else 1):
                self.cells[row][column] = (text, number)
                column += 1

    def on_grid_scroll(
        self, _grid: int, top: int, bottom: int, left: int, right: int, rows: int, _columns: int
    ) -> None:
        moved = range(top, bottom - rows) if rows > 0 else range(bottom - 1, top - rows - 1, -1)
        for row in moved:
            self.cells[row][left:right] = self.cells[row + rows][left:right]


def paint(grid: Grid) -> Image.Image:
    """The grid as a picture, with the cursor as a bar."""
    fonts = {bold: ImageFont.truetype(name, _FONT_PX) for bold, name in _FONTS.items()}
    cell_px = fonts[False].getlength("M")
    width = round(cell_px * len(grid.cells[0])) + 2 * _MARGIN_PX
    height = _LINE_PX * len(grid.cells) + 2 * _MARGIN_PX
    image = Image.new("RGB", (width, height), _rgb(grid.background))
    draw = ImageDraw.Draw(image)
    for row, cells in enumerate(grid.cells):
        y = _MARGIN_PX + row * _LINE_PX
        for column, (text, number) in enumerate(cells):
            look = grid.attributes[number]
            front = look.get("foreground", grid.foreground)
            back = look.get("background", grid.background)
            if look.get("reverse"):
                front, back = back, front
            x = _MARGIN_PX + column * cell_px
            if back != grid.background:
                draw.rectangle((x, y, x + cell_px, y + _LINE_PX - 1), _rgb(back))
            draw.text((x, y + 1), text, _rgb(front), fonts[bool(look.get("bold"))])
    x, y = _MARGIN_PX + grid.cursor[1] * cell_px, _MARGIN_PX + grid.cursor[0] * _LINE_PX
    draw.rectangle((x, y, x + 1, y + _LINE_PX - 1), _rgb(grid.foreground))
    return image


def save(image: Image.Image, path: Path) -> None:
    """Write a small PNG: text on a screen has few colours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image.quantize(64).save(path, optimize=True)


def _rgb(colour: int) -> tuple[int, int, int]:
    return colour >> 16, colour >> 8 & 0xFF, colour & 0xFF


def ghost_text(binary: Path, folder: Path, options: dict[str, Any]) -> Grid:
    """What a user sees who writes a method of the sample repository."""
    source = (_SAMPLE / _FILE).read_text(encoding="utf-8").replace("▮", _WRITTEN)
    path = folder / _FILE
    path.parent.mkdir()
    path.write_text(source, encoding="utf-8")
    status = "%f %m%=flash-lsp: %{v:lua.require'flash_lsp'.status()}  %l,%c "
    init = f"""
    require('flash_lsp').setup({lua_value(options)})
    vim.o.laststatus, vim.o.number, vim.o.statusline = 2, true, {lua_value(status)}
    """
    grid = Grid()
    neovim = Neovim(binary, folder, init, on_redraw=grid.redraw)
    try:
        neovim.request("nvim_ui_try_resize", *_SIZE)
        neovim.command("edit " + _FILE)
        neovim.wait("require('flash_lsp').state().state == 'ready'", "engine ready")
        neovim.type("Go")
        neovim.lua("vim.api.nvim_paste(..., true, -1)", TYPED)
        neovim.type("<Esc>zb10<C-e>A<CR>")
        is_there = "vim.api.nvim_get_current_line():match('^%s*$')"
        neovim.wait(f"{is_there} and require('flash_lsp').visible()", "suggestion")
        neovim.command("redraw!")
        neovim.lua("return 0")  # its answer comes after what was drawn
    finally:
        neovim.end()
    return grid


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--version", default="0.12", choices=["0.11", "0.12"])
    parser.add_argument("--models-dir", help="as the setting; Neovim does not see the user's own")
    parser.add_argument("--server", default="flash-lsp serve", help="its command line")
    args = parser.parse_args()
    binary = find_neovim(args.version)
    if binary is None:
        print(missing(args.version), file=sys.stderr)
        return 1
    settings = {"modelsDir": args.models_dir} if args.models_dir else {}
    options = {"cmd": shlex.split(args.server), "settings": settings}
    with tempfile.TemporaryDirectory() as folder:
        save(paint(ghost_text(binary, Path(folder), options)), args.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
