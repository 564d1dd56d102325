"""Packs the server's sources for the extension, which offers to install them with pip.

So an extension installs the server it was made with, and never what an index has under its name.
"""

import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ARCHIVE = ROOT / "vscode-extension" / "server" / "flash-lsp.tar.gz"
_PARTS = ("pyproject.toml", "CMakeLists.txt", "README.md", "LICENSE")
_FOLDERS = ("engine", "lsp_server", "native")
_LEFT_OUT = (".pyc", ".so", ".png")


def files() -> list[Path]:
    found = [ROOT / name for name in _PARTS]
    for folder in _FOLDERS:
        inside = sorted(path for path in (ROOT / folder).rglob("*") if path.is_file())
        found += [path for path in inside if path.suffix not in _LEFT_OUT]
    return found


def anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Without the name and the time of whoever packs: the same sources give the same entries."""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mtime = 0
    return entry


def main() -> None:
    ARCHIVE.parent.mkdir(exist_ok=True)
    with tarfile.open(ARCHIVE, "w:gz", compresslevel=6) as archive:
        for path in files():
            archive.add(path, f"flash-lsp/{path.relative_to(ROOT)}", filter=anonymous)


if __name__ == "__main__":
    main()
