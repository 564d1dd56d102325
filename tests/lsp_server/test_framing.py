import random

import pytest

from lsp_server.framing import MAX_HEADER_BYTES, FrameError, FrameReader, frame

MESSAGE = b'{"jsonrpc":"2.0"}'
LENGTH = len(MESSAGE)


def read(stream: bytes, chunk_bytes: int = 1 << 20, limit: int = 1000) -> list[bytes | FrameError]:
    reader = FrameReader(limit)
    cuts = range(0, len(stream), chunk_bytes)
    return [item for at in cuts for item in reader.feed(stream[at : at + chunk_bytes])]


@pytest.mark.parametrize(
    "header",
    [
        b"Content-Length: %d\r\n\r\n",
        b"content-length:%d\r\n\r\n",
        b"CONTENT-LENGTH:   %d  \r\n\r\n",
        b"Content-Length: %d\n\n",
        b"Content-Length: %d\n\r\n",
        b"X-Unknown: 1\r\nContent-Length: %d\r\nX-Other\r\n\r\n",
        b"Content-Type: application/vscode-jsonrpc; charset=utf-8\r\nContent-Length: %d\r\n\r\n",
        b"Content-Length: %d\r\nContent-Type: application/vscode-jsonrpc; charset=utf8\r\n\r\n",
        b"\r\n\r\n\nContent-Length: %d\r\n\r\n",
    ],
)
@pytest.mark.parametrize("chunk_bytes", [1, 7, 1 << 20])
def test_a_header_is_read_however_it_is_written_and_cut(header: bytes, chunk_bytes: int) -> None:
    stream = (header % LENGTH + MESSAGE) * 2 + frame(b"")
    assert read(stream, chunk_bytes) == [MESSAGE, MESSAGE, b""]


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        (b"Content-Length: abc\r\n\r\n", "must be a number"),
        (b"Content-Length: -5\r\n\r\n", "must be a number"),
        (b"Content-Length: 1e3\r\n\r\n", "must be a number"),
        (b"Content-Length:\r\n\r\n", "must be a number"),
        (b"Content-Length: %s\r\n\r\n" % (b"9" * 400), "must be a number"),
        (b"X-Length: 5\r\n\r\n", "without Content-Length"),
        (b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n", "two different lengths"),
        (b"Content-Type: x; charset=utf-16\r\nContent-Length: 5\r\n\r\n", "charset"),
        (b"X: " + b"y" * MAX_HEADER_BYTES + b"\r\n\r\n", "header of more than"),
        (b"{}" * MAX_HEADER_BYTES, "header of more than"),
    ],
)
@pytest.mark.parametrize("chunk_bytes", [1, 1 << 20])
def test_after_a_broken_header_the_next_message_is_found(
    header: bytes, problem: str, chunk_bytes: int
) -> None:
    broken, *rest = read(header + b'{"lost":1}' + frame(MESSAGE) * 2, chunk_bytes)
    assert isinstance(broken, FrameError)
    assert problem in broken.message
    assert not broken.is_fatal
    assert rest == [MESSAGE, MESSAGE]


@pytest.mark.parametrize("chunk_bytes", [1, 100, 1 << 20])
def test_a_body_over_the_limit_is_passed_over(chunk_bytes: int) -> None:
    refused, *rest = read(frame(b"x" * 5000) + frame(MESSAGE), chunk_bytes)
    assert isinstance(refused, FrameError)
    assert "5000" in refused.message
    assert "1000" in refused.message
    assert not refused.is_fatal
    assert rest == [MESSAGE]


def test_an_absurd_length_is_fatal_and_takes_no_memory() -> None:
    reader = FrameReader()
    [refused] = reader.feed(b"Content-Length: 2147483648\r\n\r\n")
    assert isinstance(refused, FrameError)
    assert refused.is_fatal
    assert reader.feed(frame(MESSAGE)) == []


def test_the_end_of_the_stream_is_clean_only_between_messages() -> None:
    stream = b"\r\n" + frame(MESSAGE)
    for n_bytes in range(len(stream) + 1):
        reader = FrameReader()
        reader.feed(stream[:n_bytes])
        assert reader.is_between_frames == (n_bytes in (0, 1, 2, len(stream)))


def test_noise_is_survived() -> None:
    rng = random.Random(7)
    for _ in range(300):
        noise = rng.randbytes(rng.randrange(200)).replace(b"\n\n", b"")
        reader = FrameReader()
        reader.feed(b"\n\n" + noise + b"\n\n")
        items = reader.feed(frame(MESSAGE) + frame(MESSAGE))
        assert items[-1] == MESSAGE
