"""Pictures of ghost text for people to look at, among the artifacts."""

import json
import sys
from pathlib import Path

import pytest

from tests.e2e.artifacts import ARTIFACTS
from tests.e2e.neovim.conftest import SERVER
from tests.e2e.neovim.editor import find_neovim, missing

pytest.importorskip("PIL", reason="Pillow, of the extra `dev`, paints the pictures")

from tests.e2e.neovim.screenshot import TYPED, ghost_text, paint, save  # noqa: E402

pytestmark = pytest.mark.e2e

BODY = """
        if not self.transactions:
            return None
        return max(self.transactions, key=lambda item: item.amount.cents)
"""


@pytest.mark.parametrize("version", ["0.11", "0.12"])
def test_ghost_text_is_painted(version: str, tmp_path: Path) -> None:
    binary = find_neovim(version)
    if binary is None:
        pytest.skip(missing(version))
    wants = tmp_path / "wants.json"
    wants.write_text(json.dumps([TYPED + BODY]), encoding="utf-8")
    grid = ghost_text(
        binary, tmp_path, {"cmd": [sys.executable, str(SERVER), "--wants", str(wants)]}
    )
    shown = ["".join(text for text, _ in cells).rstrip() for cells in grid.cells]
    for line in BODY.strip("\n").splitlines():
        assert any(row.endswith(line) for row in shown), "\n".join(shown)
    try:
        image = paint(grid)
    except OSError as error:
        pytest.skip(f"no font to paint with: {error}")
    colours = image.getcolors(image.width * image.height)
    assert colours is not None and len(colours) > 8
    save(image, ARTIFACTS / f"neovim-{version}.png")
