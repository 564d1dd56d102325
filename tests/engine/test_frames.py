import asyncio
import contextlib
import io
import random

import pytest

from engine import errors
from engine.config import EngineConfig, SamplingConfig
from engine.errors import ContextOverflowError, EngineError, RequestError
from engine.frames import (
    MAX_FRAME_BYTES,
    Cancel,
    Done,
    ErrorInfo,
    Failed,
    FrameError,
    Generate,
    GetStats,
    Load,
    Loaded,
    LoadFailed,
    Progress,
    Shutdown,
    Stats,
    StopText,
    Text,
    encode,
    read_frame,
    read_frame_async,
    write_frame,
)
from engine.request import (
    EngineStats,
    FinishReason,
    GenerateRequest,
    GenerateResult,
    LoadProgress,
    ModelInfo,
    PromptPart,
    Timings,
)

INFO = ModelInfo(
    name="m",
    path="/m.gguf",
    architecture="llama",
    n_parameters=135_000_000,
    n_ctx=8192,
    n_vocab=49152,
    weight_bytes=98_362_432,
    memory_bytes=2**40,
    n_threads=2,
    backend="cpu",
    load_ms=1.5,
    special_tokens=("<|a|>", "<|b|>"),
    notices=("slow type",),
)
RESULT = GenerateResult(
    text="naïve 🙂\n",
    prompt_tokens=[1, 2, 3],
    tokens=[151935],
    finish_reason=FinishReason.STOP,
    timings_ms=Timings(queue=1.0, total=2.5),
)
REQUEST = GenerateRequest(
    prompt=(PromptPart("<|fim_prefix|>", is_special=True), PromptPart("é\0\r\n", heal=True)),
    stop=("\n\n",),
    sampling=SamplingConfig(temperature=0.5, seed=2**63),
    document="file:///a.py",
    deadline_ms=1e3,
)
TO_CHILD = [
    Load(EngineConfig(model="m", n_threads=3)),
    Generate(1, REQUEST),
    Cancel(2),
    StopText(3),
    GetStats(2**40),
    Shutdown(),
]
TO_PARENT = [
    Progress(LoadProgress(0.5, "reading")),
    Loaded(INFO),
    LoadFailed(ErrorInfo("ModelNotFoundError", "gone", {"name": "m", "reason": None})),
    Text(1, "…"),
    Done(1, RESULT),
    Failed(2, ErrorInfo("EngineError", "oops")),
    Stats(3, EngineStats(n_tokens=7, decode_ms=0.25)),
]


class Trickle(io.RawIOBase):
    """A stream that gives and takes a few bytes at a time, as a pipe may."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = bytearray(data)
        self.rng = random.Random(0)

    def read(self, size: int = -1) -> bytes:
        n = min(size, self.rng.randint(1, 5))
        taken, self.data = bytes(self.data[:n]), self.data[n:]
        return taken

    def write(self, data) -> int:
        n = min(len(data), self.rng.randint(1, 5))
        self.data += data[:n]
        return n


async def read_all_async(data: bytes) -> list:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    frames = []
    while (frame := await read_frame_async(reader)) is not None:
        frames.append(frame)
    return frames


def test_every_frame_to_the_child_arrives_unchanged():
    stream = Trickle(b"".join(encode(frame) for frame in TO_CHILD))
    assert [read_frame(stream) for _ in TO_CHILD] == TO_CHILD
    assert read_frame(stream) is None


async def test_every_frame_to_the_parent_arrives_unchanged():
    stream = Trickle()
    for frame in TO_PARENT:
        write_frame(stream, frame)
    assert await read_all_async(bytes(stream.data)) == TO_PARENT


def test_the_length_is_four_little_endian_bytes():
    data = encode(Cancel(1))
    assert data[:4] == bytes([len(data) - 4, 0, 0, 0])


BROKEN = {
    "half a header": (b"\x01\x00", "the header ends after 2 bytes, expected 4"),
    "half a body": (encode(Shutdown())[:-1], r"ends after \d+ bytes, expected \d+"),
    "no body": (b"\x04\x00\x00\x00", "ends after 0 bytes, expected 4"),
    "too long": (b"\xff\xff\xff\xff", f"announces 4294967295 bytes, at most {MAX_FRAME_BYTES}"),
    "not msgpack": (b"\x01\x00\x00\x00\xc1", "broken frame: "),
    "no such frame": (b"\x07\x00\x00\x00\x81\xa4type\xa1", "broken frame: "),
    "an empty body": (b"\x00\x00\x00\x00", "broken frame: "),
}


@pytest.mark.parametrize("case", BROKEN)
async def test_a_broken_stream_is_one_clear_error_on_both_sides(case):
    data, message = BROKEN[case]
    with pytest.raises(FrameError, match=message):
        read_frame(Trickle(data))
    with pytest.raises(FrameError, match=message):
        await read_all_async(data)


async def test_a_frame_of_the_other_direction_is_broken():
    with pytest.raises(FrameError):
        read_frame(Trickle(encode(Text(1, "x"))))
    with pytest.raises(FrameError):
        await read_all_async(encode(Cancel(1)))


@pytest.mark.parametrize("seed", range(20))
async def test_random_bytes_never_raise_anything_else(seed):
    rng = random.Random(seed)
    for _ in range(50):
        frame = bytearray(encode(rng.choice(TO_PARENT)))
        for _ in range(rng.randint(1, 6)):
            frame[rng.randrange(len(frame))] = rng.randrange(256)
        with contextlib.suppress(FrameError):
            await read_all_async(bytes(frame))


@pytest.mark.parametrize(
    "request_",
    [
        GenerateRequest(prompt=(PromptPart("\ud800"),)),
        GenerateRequest(prompt=(), sampling=SamplingConfig(seed=2**64)),
        GenerateRequest(prompt=(PromptPart("x" * (MAX_FRAME_BYTES + 1)),)),
    ],
    ids=["lone surrogate", "65-bit seed", "too long"],
)
def test_what_cannot_cross_is_a_request_error(request_):
    with pytest.raises(RequestError):
        encode(Generate(1, request_))


ERRORS = [
    errors.ModelNotFoundError("m", "no such file"),
    errors.ModelFormatError("/m.gguf", "truncated"),
    errors.UnsupportedModelError("architecture", "x", ["llama", "qwen2"]),
    errors.DrafterMismatchError("x.gguf", "the drafter is 5120 wide, the target 896"),
    errors.DownloadError("m", "offline"),
    errors.ContextOverflowError(9000, 8192),
    errors.NoDeviceError("the driver is missing", "install it"),
    errors.DeviceMemoryError(2**30, 2**20, "weights 1 GiB"),
    errors.RequestError("temperature is -1"),
    errors.EngineBusyError(64),
    errors.EngineDiedError("killed by SIGKILL"),
    errors.NativeError("linear", "k is 100"),
    errors.CompileError("line 3: expected )"),
    errors.DeviceLostError("linear", "gone"),
    errors.EngineError("plain"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_an_error_comes_out_as_the_same_class_with_message_and_fields(error):
    (frame,) = await read_all_async(encode(Failed(1, ErrorInfo.of(error))))
    rebuilt = frame.error.to_error()
    assert type(rebuilt) is type(error)
    assert str(rebuilt) == str(error)
    plain = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in vars(error).items()
    }
    assert vars(rebuilt) == plain
    assert frame.error.to_error() is not rebuilt


def test_the_error_list_of_this_test_is_complete():
    found, unseen = set(), [EngineError]
    while unseen:
        error_class = unseen.pop()
        found.add(error_class)
        unseen += [sub for sub in error_class.__subclasses__() if sub.__module__ == errors.__name__]
    assert found == {type(error) for error in ERRORS}


def test_fields_survive_so_that_callers_may_use_them():
    rebuilt = ErrorInfo.of(ContextOverflowError(9000, 8192)).to_error()
    assert isinstance(rebuilt, ContextOverflowError)
    assert (rebuilt.n_tokens, rebuilt.limit_tokens) == (9000, 8192)


def test_an_unexpected_exception_becomes_a_plain_engine_error():
    info = ErrorInfo.of(KeyError("x"))
    assert (info.kind, info.message) == ("EngineError", "internal error: KeyError: 'x'")


def test_a_class_unknown_here_becomes_a_plain_engine_error():
    error = ErrorInfo("FutureError", "from a newer child").to_error()
    assert (type(error), str(error)) == (EngineError, "from a newer child")
