"""The frames of the base protocol: bytes in, message bodies out. Reads nothing itself.

LSP 3.18, "Base Protocol": https://microsoft.github.io/language-server-protocol/

More is accepted than the specification demands (header names in any case, lines that end in LF
alone, unknown headers), and nothing that is announced is trusted: no memory is taken for a
length, and after a broken header the stream is searched for the next credible one.
"""

import re
from enum import Enum, auto

import msgspec

MAX_HEADER_BYTES = 8 * 1024
MAX_BODY_BYTES = 64 * 2**20
# A body over the limit is passed over unread; a length over this one is taken for nonsense, and
# waiting for that many bytes would be silence for ever.
MAX_SKIPPED_BYTES = 2**30

_NEXT_HEADER = re.compile(rb"content-length[ \t]*:[ \t]*\d{1,10}[ \t]*\r?\n", re.IGNORECASE)
_NEXT_HEADER_MAX_BYTES = 64
_BLANK_LINES = re.compile(rb"[\r\n]+")


class FrameError(msgspec.Struct, frozen=True):
    """A frame that could not be read. After a fatal one, nothing more can be."""

    message: str
    is_fatal: bool = False


class _State(Enum):
    HEADER = auto()
    BODY = auto()
    SKIP = auto()
    RESYNC = auto()
    DEAD = auto()


def frame(body: bytes) -> bytes:
    """Put a body into a frame."""
    return b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


class FrameReader:
    """Splits a stream into message bodies, however the stream is cut."""

    def __init__(self, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        self._max_body_bytes = max_body_bytes
        self._buffer = bytearray()
        self._state = _State.HEADER
        self._missing_bytes = 0
        self._found: list[bytes | FrameError] = []

    @property
    def is_between_frames(self) -> bool:
        """Whether the stream may end here without losing part of a message."""
        return self._state in (_State.HEADER, _State.DEAD) and not self._buffer.strip()

    def feed(self, data: bytes) -> list[bytes | FrameError]:
        """Take the next bytes and return what they completed, in order."""
        self._buffer += data
        while self._step():
            pass
        found, self._found = self._found, []
        return found

    def _step(self) -> bool:
        """Advance by one state; False when more bytes are needed."""
        match self._state:
            case _State.HEADER:
                return self._read_header()
            case _State.BODY:
                return self._read_body()
            case _State.SKIP:
                return self._skip()
            case _State.RESYNC:
                return self._resync()
            case _State.DEAD:
                self._buffer.clear()
                return False

    def _read_header(self) -> bool:
        if blank := _BLANK_LINES.match(self._buffer):
            del self._buffer[: blank.end()]
        end = _header_end(self._buffer)
        if end is None:
            if len(self._buffer) <= MAX_HEADER_BYTES:
                return False
            return self._fail(f"a header of more than {MAX_HEADER_BYTES} bytes")
        length = _content_length(bytes(self._buffer[:end]))
        del self._buffer[:end]
        if isinstance(length, str):
            return self._fail(length)
        self._begin_body(length)
        return True

    def _begin_body(self, n_bytes: int) -> None:
        self._missing_bytes = n_bytes
        if n_bytes <= self._max_body_bytes:
            self._state = _State.BODY
            return
        is_fatal = n_bytes > MAX_SKIPPED_BYTES
        self._state = _State.DEAD if is_fatal else _State.SKIP
        message = f"a message of {n_bytes} bytes was refused; the limit is {self._max_body_bytes}"
        self._found.append(FrameError(message, is_fatal))

    def _read_body(self) -> bool:
        if len(self._buffer) < self._missing_bytes:
            return False
        self._found.append(bytes(self._buffer[: self._missing_bytes]))
        del self._buffer[: self._missing_bytes]
        self._state = _State.HEADER
        return True

    def _skip(self) -> bool:
        n_skipped = min(len(self._buffer), self._missing_bytes)
        del self._buffer[:n_skipped]
        self._missing_bytes -= n_skipped
        if self._missing_bytes:
            return False
        self._state = _State.HEADER
        return True

    def _fail(self, message: str) -> bool:
        self._found.append(FrameError(message))
        self._state = _State.RESYNC
        return True

    def _resync(self) -> bool:
        # The pattern cannot lie inside a JSON text: strings escape their line ends.
        match = _NEXT_HEADER.search(self._buffer)
        if match is None:
            del self._buffer[:-_NEXT_HEADER_MAX_BYTES]
            return False
        del self._buffer[: match.start()]
        self._state = _State.HEADER
        return True


def _header_end(buffer: bytearray) -> int | None:
    """Where the body begins: after the first blank line, whichever way its lines end."""
    ends = [
        at + len(blank)
        for blank in (b"\n\r\n", b"\n\n")
        if (at := buffer.find(blank, 0, MAX_HEADER_BYTES + 4)) >= 0
    ]
    return min(ends, default=None)


def _content_length(header: bytes) -> int | str:
    """The announced length, or what is wrong with the header."""
    length: int | None = None
    for line in header.splitlines():
        name, _, value = line.partition(b":")
        name, value = name.strip().lower(), value.strip()
        if name == b"content-type" and not _is_utf8(value):
            return f"unsupported {_shown(line)}; the only charset is utf-8"
        if name != b"content-length":
            continue
        if not (value.isdigit() and len(value) <= 18):
            return f"{_shown(line)}: the length must be a number of bytes"
        if length is not None and length != int(value):
            return "two different lengths in one header"
        length = int(value)
    return "a header without Content-Length" if length is None else length


def _is_utf8(content_type: bytes) -> bool:
    _, found, charset = content_type.lower().partition(b"charset=")
    return not found or charset.strip(b" \"'").replace(b"-", b"") == b"utf8"


def _shown(line: bytes) -> str:
    return repr(line[:80].decode("ascii", "replace"))
