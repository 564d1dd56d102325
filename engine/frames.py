"""What the parent and the engine's child process say to each other, and how it is framed.

A frame is a 4-byte little-endian length and a msgpack body: one tagged struct. Nothing but plain
data crosses; errors cross as `ErrorInfo` and come out as the same class with the same message.
"""

import asyncio
import io
from collections.abc import Iterable
from typing import TypeAlias, TypeVar, cast

import msgspec

from engine.config import EngineConfig
from engine.errors import EngineError, RequestError
from engine.request import (
    EngineStats,
    GenerateRequest,
    GenerateResult,
    LoadProgress,
    ModelInfo,
    Selection,
    SelectRequest,
)

MAX_FRAME_BYTES = 64 * 2**20
_HEADER_BYTES = 4

_FrameT = TypeVar("_FrameT")
PlainValue: TypeAlias = bool | int | float | str | list[str] | None


class FrameError(EngineError):
    """The stream between parent and child is broken; it cannot be read any further."""

    def __init__(self, detail: str) -> None:
        super().__init__(f"broken frame: {detail}")
        self.detail = detail


class ErrorInfo(msgspec.Struct, frozen=True):
    """An EngineError as plain data: its class name, its message, its fields."""

    kind: str
    message: str
    fields: dict[str, PlainValue] = {}

    @classmethod
    def of(cls, error: Exception) -> "ErrorInfo":
        """Describe `error`; one that is not an EngineError becomes one, without its traceback."""
        if not isinstance(error, EngineError):
            return cls("EngineError", f"internal error: {type(error).__name__}: {error}")
        fields = {name: _plain(value) for name, value in vars(error).items()}
        return cls(type(error).__name__, str(error), fields)

    def to_error(self) -> EngineError:
        """Build a fresh error of the same class; a class unknown here becomes EngineError."""
        error_class = _error_classes().get(self.kind, EngineError)
        # The constructors take what the message is made from; here the message exists already.
        error = error_class.__new__(error_class, self.message)
        error.args = (self.message,)
        vars(error).update(self.fields)
        return error


def _plain(value: object) -> PlainValue:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list):
        return [str(item) for item in cast("Iterable[object]", value)]
    return str(value)


def _error_classes() -> dict[str, type[EngineError]]:
    found: dict[str, type[EngineError]] = {}
    unseen: list[type[EngineError]] = [EngineError]
    while unseen:
        error_class = unseen.pop()
        found[error_class.__name__] = error_class
        unseen.extend(error_class.__subclasses__())
    return found


class Load(msgspec.Struct, frozen=True, tag=True):
    """Load a model. The first frame of a child's life, and sent once."""

    config: EngineConfig


class Generate(msgspec.Struct, frozen=True, tag=True):
    """Answered by Accepted, any number of Text, and then one Done or Failed with the same id."""

    id: int
    request: GenerateRequest


class Select(msgspec.Struct, frozen=True, tag=True):
    """Answered by Accepted and then one Selected or Failed with the same id."""

    id: int
    request: SelectRequest


class Cancel(msgspec.Struct, frozen=True, tag=True):
    """Nobody wants the result of `id` any more; it ends as cancelled."""

    id: int


class StopText(msgspec.Struct, frozen=True, tag=True):
    """The text of `id` is long enough; it ends as STOP."""

    id: int


class GetStats(msgspec.Struct, frozen=True, tag=True):
    """Answered by one Stats with the same id."""

    id: int


class Shutdown(msgspec.Struct, frozen=True, tag=True):
    """Cancel everything, close the engine, end the process."""


class Progress(msgspec.Struct, frozen=True, tag=True):
    """How far loading is."""

    progress: LoadProgress


class Loaded(msgspec.Struct, frozen=True, tag=True):
    """Loading is done."""

    info: ModelInfo


class LoadFailed(msgspec.Struct, frozen=True, tag=True):
    """Loading failed for a reason that trying again will not change; the child ends."""

    error: ErrorInfo


class Accepted(msgspec.Struct, frozen=True, tag=True):
    """The request has arrived; if the engine dies from here on, the request dies with it."""

    id: int


class Text(msgspec.Struct, frozen=True, tag=True):
    """New text of request `id`."""

    id: int
    text: str


class Done(msgspec.Struct, frozen=True, tag=True):
    """Request `id` has ended; `result` says how."""

    id: int
    result: GenerateResult


class Selected(msgspec.Struct, frozen=True, tag=True):
    """Request `id` has ended; `selection` says how."""

    id: int
    selection: Selection


class Failed(msgspec.Struct, frozen=True, tag=True):
    """Request `id` has ended with an error."""

    id: int
    error: ErrorInfo


class Stats(msgspec.Struct, frozen=True, tag=True):
    """Counters as of the last request that ended."""

    id: int
    stats: EngineStats


ToChild: TypeAlias = Load | Generate | Select | Cancel | StopText | GetStats | Shutdown
ToParent: TypeAlias = (
    Progress | Loaded | LoadFailed | Accepted | Text | Done | Selected | Failed | Stats
)

_encoder = msgspec.msgpack.Encoder()
_to_child_decoder: msgspec.msgpack.Decoder[ToChild] = msgspec.msgpack.Decoder(ToChild)
_to_parent_decoder: msgspec.msgpack.Decoder[ToParent] = msgspec.msgpack.Decoder(ToParent)


def encode(frame: ToChild | ToParent) -> bytes:
    """Encode a frame with its header; raises RequestError for what cannot cross."""
    try:
        body = _encoder.encode(frame)
    except (UnicodeEncodeError, OverflowError, TypeError) as error:
        raise RequestError(f"not fit to cross to the engine: {error}") from None
    if len(body) > MAX_FRAME_BYTES:
        raise RequestError(f"{len(body)} bytes in one message, at most {MAX_FRAME_BYTES} may cross")
    return len(body).to_bytes(_HEADER_BYTES, "little") + body


def write_frame(stream: io.RawIOBase, frame: ToParent) -> None:
    """Write a whole frame to an unbuffered stream; raises OSError if the other end is gone."""
    unsent = memoryview(encode(frame))
    while unsent:
        unsent = unsent[stream.write(unsent) or 0 :]


def read_frame(stream: io.RawIOBase) -> ToChild | None:
    """Read the parent's next frame from an unbuffered stream; None at its end."""
    header = _read_exactly(stream, _HEADER_BYTES)
    if not header:
        return None
    n_bytes = _body_bytes(header)
    return _decode(_to_child_decoder, _read_exactly(stream, n_bytes), n_bytes)


async def read_frame_async(reader: asyncio.StreamReader) -> ToParent | None:
    """Read the child's next frame; None at the end of the stream."""
    header = await _read_exactly_async(reader, _HEADER_BYTES)
    if not header:
        return None
    n_bytes = _body_bytes(header)
    return _decode(_to_parent_decoder, await _read_exactly_async(reader, n_bytes), n_bytes)


async def _read_exactly_async(reader: asyncio.StreamReader, n_bytes: int) -> bytes:
    try:
        return await reader.readexactly(n_bytes)
    except asyncio.IncompleteReadError as error:
        return error.partial


def _read_exactly(stream: io.RawIOBase, n_bytes: int) -> bytes:
    """Read `n_bytes`, fewer only at the end of the stream."""
    received = bytearray()
    while len(received) < n_bytes:
        chunk = stream.read(n_bytes - len(received))
        if not chunk:
            break
        received += chunk
    return bytes(received)


def _body_bytes(header: bytes) -> int:
    if len(header) < _HEADER_BYTES:
        raise FrameError(f"the header ends after {len(header)} bytes, expected {_HEADER_BYTES}")
    n_bytes = int.from_bytes(header, "little")
    if n_bytes > MAX_FRAME_BYTES:
        raise FrameError(f"announces {n_bytes} bytes, at most {MAX_FRAME_BYTES} are allowed")
    return n_bytes


def _decode(decoder: msgspec.msgpack.Decoder[_FrameT], body: bytes, n_bytes: int) -> _FrameT:
    if len(body) < n_bytes:
        raise FrameError(f"ends after {len(body)} bytes, expected {n_bytes}")
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FrameError(str(error)) from None
