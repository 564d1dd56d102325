"""Open documents: their text, kept by lines, and what a position in it means.

A line ends at LF, CR LF or a lone CR and nowhere else (LSP, "Text Documents"): form feeds and the
Unicode separators are ordinary characters. Every line but the last carries its line end; the last
has none and may be empty. An edit touches only the lines it names, whatever the document's size.
"""

import io
from collections.abc import Iterator, Sequence
from enum import StrEnum

import msgspec

from lsp_server.change_log import ChangeLog, Place
from lsp_server.edit_history import EditHistory
from lsp_server.protocol import ContentChange, Position, Range
from lsp_server.rhythm import TypingRhythm

_LINE_ENDS = "\r\n"


class PositionEncoding(StrEnum):
    """What a position's `character` counts."""

    UTF8 = "utf-8"
    UTF16 = "utf-16"
    UTF32 = "utf-32"


class UnknownDocumentError(Exception):
    """A message names a document that is not open."""

    def __init__(self, uri: str) -> None:
        super().__init__(f"document '{uri}' is not open; send textDocument/didOpen first")
        self.uri = uri


class OutsideTextError(Exception):
    """A position names a line the document does not have."""

    def __init__(self, line: int, n_lines: int) -> None:
        super().__init__(
            f"line {line} is outside the document, whose lines are 0 to {n_lines - 1}; "
            "send the changes that made it longer first"
        )
        self.line, self.n_lines = line, n_lines


class Window(msgspec.Struct, frozen=True):
    """The text around a place, as far as it was asked for."""

    before: str
    after: str


class Document:
    """One open document. `version` is the client's number for the present text; `changes` are the
    latest ones it went through, `edits` the same as a person sees them, `rhythm` how fast it is
    typed."""

    def __init__(
        self, uri: str, language_id: str, version: int, text: str, encoding: PositionEncoding
    ) -> None:
        self.uri, self.language_id, self.version = uri, language_id, version
        self._encoding = encoding
        self._lines = _split(text)
        self.changes = ChangeLog()
        self.edits = EditHistory()
        self.rhythm = TypingRhythm()

    @property
    def text(self) -> str:
        return "".join(self._lines)

    @property
    def n_lines(self) -> int:
        return len(self._lines)

    def line(self, line_idx: int) -> str:
        """The text of a line without its line end."""
        return self._lines[line_idx].rstrip(_LINE_ENDS)

    def lines(self, start: int, end: int) -> str:
        """The text of the lines from `start` to `end` (exclusive), with their line ends."""
        return "".join(self._lines[start:end])

    def change(self, changes: Sequence[ContentChange], version: int | None) -> None:
        """Apply edits one after another; each sees the text its predecessors left."""
        self.version = self.version + 1 if version is None else version
        for change in changes:
            if change.range is None:
                self._replace_all(change.text)
            else:
                self._replace(change.range, change.text)

    def place(self, position: Position) -> Place:
        """Find a position; one past the end of its line or of the text means that end.

        A position inside a character (half a surrogate pair) means the start of it.
        """
        if position.line >= len(self._lines):
            last = len(self._lines) - 1
            return Place(last, len(self._lines[last]))
        content = self.line(position.line)
        return Place(position.line, _column(content, position.character, self._encoding))

    def place_inside(self, position: Position) -> Place:
        """Find a position whose line must exist. Raises OutsideTextError."""
        if position.line >= len(self._lines):
            raise OutsideTextError(position.line, len(self._lines))
        return self.place(position)

    def offset(self, place: Place) -> int:
        """How many characters of the text come before a place."""
        return sum(len(line) for line in self._lines[: place.line]) + place.column

    def position(self, place: Place) -> Position:
        """Name a place as the client does."""
        before = self.line(place.line)[: place.column]
        return Position(place.line, _n_units(before, self._encoding))

    def window(self, place: Place, max_before_chars: int, max_after_chars: int) -> Window:
        """Take the text around a place without touching the rest of the document."""
        line = self._lines[place.line]
        return Window(
            before=self._before(place.line, line[: place.column], max_before_chars),
            after=self._after(place.line, line[place.column :], max_after_chars),
        )

    def _before(self, line_idx: int, last: str, max_chars: int) -> str:
        pieces, n_chars = [last], len(last)
        while n_chars < max_chars and line_idx > 0:
            line_idx -= 1
            pieces.append(self._lines[line_idx])
            n_chars += len(pieces[-1])
        text = "".join(reversed(pieces))
        return text[max(0, len(text) - max_chars) :]

    def _after(self, line_idx: int, first: str, max_chars: int) -> str:
        pieces, n_chars = [first], len(first)
        while n_chars < max_chars and line_idx + 1 < len(self._lines):
            line_idx += 1
            pieces.append(self._lines[line_idx])
            n_chars += len(pieces[-1])
        return "".join(pieces)[:max_chars]

    def _replace_all(self, text: str) -> None:
        """Take a new text; what differs from the old one is what was changed."""
        old, new = self._lines, _split(text)
        n_most = min(len(old), len(new)) - 1
        n_head = next((n for n in range(n_most) if old[n] != new[n]), max(n_most, 0))
        n_most -= n_head
        n_tail = next((n for n in range(n_most) if old[-1 - n] != new[-1 - n]), max(n_most, 0))
        last = len(old) - 1 - n_tail
        self.changes.record(
            self.version,
            Place(n_head, 0),
            "".join(old[n_head : last + 1]),
            "".join(new[n_head : len(new) - n_tail]),
        )
        self.edits.record(n_head, old[n_head : last + 1], new[n_head : len(new) - n_tail])
        self._lines = new

    def _text_between(self, start: Place, end: Place) -> str:
        if start.line == end.line:
            return self._lines[start.line][start.column : end.column]
        middle = self._lines[start.line + 1 : end.line]
        head, tail = self._lines[start.line][start.column :], self._lines[end.line][: end.column]
        return "".join((head, *middle, tail))

    def _replace(self, where: Range, text: str) -> None:
        # Ends in the wrong order name the same text, as editors read them.
        start, end = sorted((self.place(where.start), self.place(where.end)))
        self.changes.record(self.version, start, self._text_between(start, end), text)
        head = self._lines[start.line][: start.column]
        tail = self._lines[end.line][end.column :]
        first, replacement = start.line, f"{head}{text}{tail}"
        if replacement.startswith("\n") and first and self._lines[first - 1].endswith("\r"):
            # The LF joins the CR before it into one line end.
            first -= 1
            replacement = self._lines[first] + replacement
        lines = _split(replacement)
        if end.line + 1 < len(self._lines) and not lines[-1]:
            lines.pop()  # the replaced lines end in a line end, and more lines follow
        self.edits.record(first, self._lines[first : end.line + 1], lines)
        self._lines[first : end.line + 1] = lines


class DocumentStore:
    """The documents that are open now, by their URI exactly as the client writes it."""

    def __init__(self) -> None:
        self.encoding = PositionEncoding.UTF16
        self._documents: dict[str, Document] = {}

    def __len__(self) -> int:
        return len(self._documents)

    def __iter__(self) -> Iterator[Document]:
        return iter(list(self._documents.values()))

    def open(self, uri: str, language_id: str, version: int, text: str) -> Document:
        """Open a document; one already open under the URI is replaced."""
        document = Document(uri, language_id, version, text, self.encoding)
        self._documents[uri] = document
        return document

    def change(self, uri: str, changes: Sequence[ContentChange], version: int | None) -> Document:
        document = self[uri]
        document.change(changes, version)
        return document

    def close(self, uri: str) -> None:
        if self._documents.pop(uri, None) is None:
            raise UnknownDocumentError(uri)

    def __getitem__(self, uri: str) -> Document:
        try:
            return self._documents[uri]
        except KeyError:
            raise UnknownDocumentError(uri) from None


def choose_encoding(offered: Sequence[str] | None) -> PositionEncoding:
    """The first encoding a client offers that we know; UTF-16 is the protocol's default."""
    known = {encoding.value for encoding in PositionEncoding}
    return PositionEncoding(next((name for name in offered or () if name in known), "utf-16"))


def _split(text: str) -> list[str]:
    # Iterating a StringIO without newline translation splits at exactly LF, CR LF and CR.
    lines = list(io.StringIO(text, newline=""))
    if not lines or lines[-1][-1] in _LINE_ENDS:
        lines.append("")
    return lines


def _column(content: str, n_units: int, encoding: PositionEncoding) -> int:
    """How many whole characters of a line fit into so many code units."""
    if encoding is PositionEncoding.UTF32 or content.isascii():
        return min(n_units, len(content))
    if encoding is PositionEncoding.UTF16:
        head = content.encode("utf-16-le", "surrogatepass")[: 2 * n_units]
        is_cut = len(head) >= 2 and 0xD8 <= head[-1] <= 0xDB  # a high half: its low half is gone
        return len((head[:-2] if is_cut else head).decode("utf-16-le", "surrogatepass"))
    encoded = content.encode("utf-8", "surrogatepass")
    end = min(n_units, len(encoded))
    while end < len(encoded) and encoded[end] & 0xC0 == 0x80:
        end -= 1
    return len(encoded[:end].decode("utf-8", "surrogatepass"))


def _n_units(text: str, encoding: PositionEncoding) -> int:
    """How many code units a text has."""
    if encoding is PositionEncoding.UTF32 or text.isascii():
        return len(text)
    if encoding is PositionEncoding.UTF16:
        return len(text.encode("utf-16-le", "surrogatepass")) // 2
    return len(text.encode("utf-8", "surrogatepass"))
