"""How the parent reaches the thread that owns the model: a child process, or a thread of its own.

A link lives once: open, send and receive, close. It knows frames but not what they mean.
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
from collections import deque
from pathlib import Path
from typing import Protocol

from engine.errors import EngineDiedError
from engine.frames import (
    FrameError,
    Load,
    Shutdown,
    ToChild,
    ToParent,
    encode,
    read_frame_async,
)
from engine.worker import Worker

SHUTDOWN_TIMEOUT_S = 2.0
FORCE_TIMEOUT_S = 1.0
_MAX_LINE_BYTES = 64 * 2**10
_log = logging.getLogger("flash_lsp.engine")


class Link(Protocol):
    """One life of the engine, as its parent sees it."""

    async def open(self) -> None:
        """Start it; raises EngineDiedError if that is impossible."""
        ...

    def send(self, frame: ToChild) -> None:
        """Send without waiting; does nothing once the other side is gone."""
        ...

    async def receive(self) -> ToParent | None:
        """Wait for the next frame; None when the other side has ended."""
        ...

    async def close(self) -> str:
        """End it, by force if it does not listen, and say how it ended."""
        ...


class ChildLink:
    """A child process running `engine.host`."""

    def __init__(self, engine: str) -> None:
        self._engine = engine
        self._process: asyncio.subprocess.Process | None = None
        self._log_task: asyncio.Task[None] | None = None
        self._last_lines: deque[str] = deque(maxlen=20)
        self._broken: str | None = None

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    async def open(self) -> None:
        pipe = asyncio.subprocess.PIPE
        # -P: a folder the editor was started in must not offer its own modules to the child.
        command = [sys.executable, "-P", "-m", "engine.host", "--engine", self._engine]
        try:
            self._process = await asyncio.create_subprocess_exec(
                *command, stdin=pipe, stdout=pipe, stderr=pipe, env=child_environment()
            )
        except OSError as error:
            raise EngineDiedError(f"could not start {sys.executable}: {error}") from error
        self._log_task = asyncio.create_task(self._forward_log(self._process))

    def send(self, frame: ToChild) -> None:
        data = encode(frame)
        if self._process is None or self._process.stdin is None:
            return
        if not self._process.stdin.is_closing():
            self._process.stdin.write(data)

    async def receive(self) -> ToParent | None:
        assert self._process is not None
        assert self._process.stdout is not None
        try:
            return await read_frame_async(self._process.stdout)
        except FrameError as error:
            self._broken = str(error)
            return None

    async def close(self) -> str:
        process = self._process
        if process is None:
            return "never started"
        self.send(Shutdown())
        assert process.stdin is not None
        process.stdin.close()
        if not await _is_gone(process, SHUTDOWN_TIMEOUT_S):
            _log.warning("engine process %d does not end when asked to; forcing it", process.pid)
            for force in (process.terminate, process.kill):
                with contextlib.suppress(ProcessLookupError):
                    force()
                if await _is_gone(process, FORCE_TIMEOUT_S):
                    break
        if self._log_task is not None:
            await asyncio.wait([self._log_task], timeout=FORCE_TIMEOUT_S)
            self._log_task.cancel()
        with contextlib.suppress(ConnectionError):
            await process.stdin.wait_closed()
        return self._describe_end(process.returncode)

    async def _forward_log(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        unfinished = b""
        while chunk := await process.stderr.read(4096):
            *lines, unfinished = (unfinished + chunk).split(b"\n")
            if len(unfinished) > _MAX_LINE_BYTES:
                lines.append(unfinished)
                unfinished = b""
            for line in lines:
                self._log_line(process.pid, line)
        if unfinished:
            self._log_line(process.pid, unfinished)

    def _log_line(self, pid: int, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip()
        if text:
            self._last_lines.append(text)
            _log.info("[%d] %s", pid, text)

    def _describe_end(self, returncode: int | None) -> str:
        end = self._broken or _describe_returncode(returncode)
        return f"{end}: {self._last_lines[-1][:200]}" if self._last_lines else end


def child_environment() -> dict[str, str]:
    """Our environment, with our `sys.path` as the child's, wherever this package came from."""
    ours = str(Path(__file__).resolve().parent.parent)
    entries = [os.path.abspath(entry) for entry in sys.path if entry]
    if ours not in entries:
        entries.insert(0, ours)
    # An entry that holds the separator cannot be expressed.
    path = os.pathsep.join(entry for entry in entries if os.pathsep not in entry)
    return {**os.environ, "PYTHONPATH": path}


def _describe_returncode(returncode: int | None) -> str:
    if returncode is None:
        return "cannot be ended"
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        return f"killed by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"killed by signal {-returncode}"


async def _is_gone(process: asyncio.subprocess.Process, timeout_s: float) -> bool:
    try:
        await asyncio.wait_for(_drain(process), timeout_s)
    except TimeoutError:
        return False
    return True


async def _drain(process: asyncio.subprocess.Process) -> None:
    """Wait for the end; what is still written is read, for a full pipe would delay it."""
    assert process.stdout is not None
    while await process.stdout.read(2**16):
        pass
    await process.wait()


class ThreadLink:
    """A thread of this process: nothing to kill, nothing to survive; for debugging."""

    def __init__(self, engine: str) -> None:
        self._frames: asyncio.Queue[ToParent | None] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._worker = Worker(engine, self._post)
        self._thread: threading.Thread | None = None
        self._has_ended = asyncio.Event()
        self._failure: Exception | None = None

    async def open(self) -> None:
        """Nothing to start before the Load frame."""

    def send(self, frame: ToChild) -> None:
        if isinstance(frame, Load):
            self._thread = threading.Thread(
                target=self._run, args=(frame,), name="engine", daemon=True
            )
            self._thread.start()
        else:
            self._worker.handle(frame)

    async def receive(self) -> ToParent | None:
        return await self._frames.get()

    async def close(self) -> str:
        self._worker.close()
        if self._thread is not None:
            try:
                await asyncio.wait_for(self._has_ended.wait(), SHUTDOWN_TIMEOUT_S)
            except TimeoutError:
                _log.warning("the engine's thread does not end when asked to; leaving it behind")
                return "the thread hangs"
            self._thread.join()
        return "the thread ended" if self._failure is None else str(self._failure)

    def _run(self, load: Load) -> None:
        try:
            self._worker.run(load.config)
        except Exception as error:
            self._failure = error
            _log.exception("the engine's thread ended")
        self._post(None)

    def _post(self, frame: ToParent | None) -> None:
        # The loop is closed if the program ended without waiting for a hanging thread.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._deliver, frame)

    def _deliver(self, frame: ToParent | None) -> None:
        if frame is None:
            self._has_ended.set()
        self._frames.put_nowait(frame)
