"""A place in a file on disk, as the command line names it."""

from pathlib import Path

from engine.errors import RequestError
from lsp_server.documents import Document, Place, PositionEncoding
from lsp_server.prompt import CompletionInput

_UTF32 = PositionEncoding.UTF32  # columns count characters, as editors show them


def parse_place(place: str) -> tuple[Path, int, int]:
    """Splits FILE:LINE:COL; raises RequestError."""
    file, _, rest = place.rpartition(":")
    file, _, line = file.rpartition(":")
    if not file or not line.isdecimal() or not rest.isdecimal() or 0 in (int(line), int(rest)):
        raise RequestError(
            f"'{place}' is no place in a file, expected FILE:LINE:COL counted from 1"
        )
    return Path(file), int(line), int(rest)


def input_at(path: Path, line: int, column: int) -> CompletionInput:
    """The text around a place. Raises RequestError if the file has no such place."""
    text = path.read_text("utf-8", errors="replace")
    document = Document(path.as_uri() if path.is_absolute() else str(path), "", 0, text, _UTF32)
    if line > document.n_lines:
        raise RequestError(f"{path} has {document.n_lines} lines, got line {line}")
    n_columns = len(document.line(line - 1)) + 1
    if column > n_columns:
        raise RequestError(f"line {line} of {path} has columns 1..{n_columns}, got {column}")
    window = document.window(Place(line - 1, column - 1), len(text), len(text))
    return CompletionInput(prefix=window.before, suffix=window.after, path=str(path))
