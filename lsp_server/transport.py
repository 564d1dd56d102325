"""The wire: bytes between a client and a `Peer`, over stdio or one loopback TCP connection.

Nothing here waits on the client inside the event loop: a thread reads stdin, another writes
stdout, whole messages at a time. While the server runs, file descriptor 1 leads to stderr, so that
nothing but protocol can reach the client, whoever prints.
"""

import asyncio
import logging
import os
import queue
import threading
from collections.abc import Callable
from typing import Protocol

from lsp_server.framing import FrameError, FrameReader
from lsp_server.jsonrpc import Peer

log = logging.getLogger(__name__)

READ_BYTES = 64 * 1024
# A client that reads nothing while this much waits for it is taken for gone.
MAX_UNSENT_BYTES = 256 * 2**20
PARENT_POLL_S = 3.0
FLUSH_TIMEOUT_S = 2.0


class Wire(Protocol):
    """A two-way stream of bytes."""

    async def read(self) -> bytes:
        """The next bytes, or none at the end of the stream."""
        ...

    def write(self, data: bytes) -> None:
        """Send all of `data`, some time soon and in order; never waits."""
        ...

    async def close(self) -> None:
        """Send what is still unsent, within reason, and let go."""
        ...


class Conversation:
    """Carries one client's messages to a peer until either side ends it."""

    def __init__(self, wire: Wire, peer: Peer) -> None:
        self._wire, self._peer = wire, peer
        self._exited = asyncio.Event()
        peer.write = wire.write
        peer.on_exit = lambda _: self._exited.set()

    async def run(self) -> int:
        """Serve until `exit`, the end of the input or a fatal error; returns the exit code."""
        reading = asyncio.create_task(self._read())
        exiting = asyncio.create_task(self._exited.wait())
        await asyncio.wait((reading, exiting), return_when=asyncio.FIRST_COMPLETED)
        for task in (reading, exiting):
            task.cancel()
        await asyncio.gather(reading, exiting, return_exceptions=True)
        await self._wire.close()
        return self._peer.exit_code or 0

    async def _read(self) -> None:
        frames = FrameReader()
        while self._peer.exit_code is None and (data := await self._wire.read()):
            for item in frames.feed(data):
                if isinstance(item, FrameError):
                    self._peer.reject(item)
                else:
                    self._peer.receive(item)
        if not frames.is_between_frames:
            log.error("the input ended inside a message")
        self._peer.exit(0 if frames.is_between_frames else 1)


async def watch_parent(
    process_id: int, on_lost: Callable[[], None], poll_s: float = PARENT_POLL_S
) -> None:
    """Call `on_lost` once the process that started us is gone."""
    while process_exists(process_id):
        await asyncio.sleep(poll_s)
    log.error("the client process %d is gone", process_id)
    on_lost()


def process_exists(process_id: int) -> bool:
    """Whether a process is alive; where that cannot be asked without harm, it is taken to be."""
    if os.name != "posix" or process_id <= 0:
        return True  # on Windows signal 0 would end the process; there the end of stdin tells us
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


class StdioWire:
    """The process's own stdin and stdout, taken over for protocol alone."""

    def __init__(self, in_fd: int, out_fd: int, on_broken: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._arrived: asyncio.Queue[bytes] = asyncio.Queue()
        self._in_fd = in_fd
        self._writer = _Writer(out_fd, lambda: self._call_loop(on_broken))
        threading.Thread(target=self._read_forever, name="stdin", daemon=True).start()

    async def read(self) -> bytes:
        return await self._arrived.get()

    def write(self, data: bytes) -> None:
        self._writer.put(data)

    async def close(self) -> None:
        await asyncio.to_thread(self._writer.finish, FLUSH_TIMEOUT_S)

    def _read_forever(self) -> None:
        while data := self._read_some():
            self._call_loop(self._arrived.put_nowait, data)
        self._call_loop(self._arrived.put_nowait, b"")

    def _read_some(self) -> bytes:
        try:
            return os.read(self._in_fd, READ_BYTES)
        except OSError as error:
            log.error("stdin could not be read: %s", error)
            return b""

    def _call_loop(self, call: Callable[..., None], *args: bytes) -> None:
        try:
            self._loop.call_soon_threadsafe(call, *args)
        except RuntimeError:  # the loop is closed: the process is on its way out
            log.debug("input after the end was dropped")


class _Writer:
    """A thread that writes whole messages, so that a slow client never stops the event loop."""

    def __init__(self, fd: int, on_broken: Callable[[], None]) -> None:
        self._fd, self._on_broken = fd, on_broken
        self._waiting: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._unsent_bytes = 0
        self._lock = threading.Lock()
        self._is_broken = False
        self._thread = threading.Thread(target=self._write_forever, name="stdout", daemon=True)
        self._thread.start()

    def put(self, data: bytes) -> None:
        if self._is_broken:
            return
        with self._lock:
            self._unsent_bytes += len(data)
            is_stuck = self._unsent_bytes > MAX_UNSENT_BYTES
        if is_stuck:
            self._break("the client does not read")
            return
        self._waiting.put(data)

    def finish(self, timeout_s: float) -> None:
        self._waiting.put(None)
        self._thread.join(timeout_s)

    def _write_forever(self) -> None:
        while (data := self._waiting.get()) is not None and not self._is_broken:
            try:
                _write_all(self._fd, data)
            except OSError as error:
                self._break(f"stdout could not be written: {error}")
            with self._lock:
                self._unsent_bytes -= len(data)

    def _break(self, reason: str) -> None:
        self._is_broken = True
        log.error("%s", reason)
        self._on_broken()


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def take_over_stdio() -> tuple[int, int]:
    """Keep stdin and stdout for the protocol: their descriptors, out of everyone else's reach."""
    in_fd, out_fd = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    try:
        os.dup2(2, 1)
    except OSError:  # started without a stderr
        os.dup2(nothing, 1)
    os.close(nothing)
    return in_fd, out_fd


class TcpWire:
    """One accepted TCP connection."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        on_broken: Callable[[], None],
    ) -> None:
        self._reader, self._writer, self._on_broken = reader, writer, on_broken

    async def read(self) -> bytes:
        try:
            return await self._reader.read(READ_BYTES)
        except OSError as error:
            log.error("the connection broke: %s", error)
            return b""

    def write(self, data: bytes) -> None:
        if self._writer.is_closing():
            return
        self._writer.write(data)
        if self._writer.transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            log.error("the client does not read")
            self._on_broken()

    async def close(self) -> None:
        self._writer.close()
        try:
            async with asyncio.timeout(FLUSH_TIMEOUT_S):
                await self._writer.wait_closed()
        except (OSError, TimeoutError):
            self._writer.transport.abort()


async def accept_one(
    port: int, on_listening: Callable[[int], None], on_broken: Callable[[], None]
) -> TcpWire:
    """Listen on the loopback interface and wait for the one client; port 0 means any free one."""
    accepted: asyncio.Future[TcpWire] = asyncio.get_running_loop().create_future()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if accepted.done():
            writer.close()
        else:
            accepted.set_result(TcpWire(reader, writer, on_broken))

    listener = await asyncio.start_server(accept, "127.0.0.1", port)
    on_listening(listener.sockets[0].getsockname()[1])
    wire = await accepted
    listener.close()  # no second client; the accepted connection stays
    return wire
