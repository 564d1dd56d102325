"""Stands between a client and its server on stdio and notes every message: who sent it, its method
and its id, a line of JSON each.

usage: wiretap.py LOG COMMAND...
"""

import contextlib
import os
import sys
import threading
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any, BinaryIO

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT))

import msgspec  # noqa: E402

from lsp_server.framing import FrameReader  # noqa: E402

INLINE = "textDocument/inlineCompletion"
CANCEL = "$/cancelRequest"


class Note(msgspec.Struct):
    """A message without its content; `cancels` is the id that a cancellation names."""

    sender: str
    method: str | None = None
    id: int | str | None = None
    cancels: int | str | None = None


class Traffic(msgspec.Struct):
    """Requests of one method. One that was cancelled or answered is in flight no more."""

    requests: int = 0
    most_in_flight: int = 0
    left_in_flight: int = 0


def traffic(log: Path, method: str = INLINE) -> Traffic:
    """What the client had in flight, by what was noted so far."""
    found, in_flight = Traffic(), set[object]()
    for line in log.read_bytes().splitlines():
        note = msgspec.json.decode(line, type=Note)
        if note.sender == "client" and note.method == method:
            in_flight.add(note.id)
            found.requests += 1
            found.most_in_flight = max(found.most_in_flight, len(in_flight))
        elif note.sender == "client" and note.method == CANCEL:
            in_flight.discard(note.cancels)
        elif note.sender == "server" and note.method is None:
            in_flight.discard(note.id)
    found.left_in_flight = len(in_flight)
    return found


class Tap:
    """Passes one direction on, and notes it."""

    def __init__(self, sender: str, log: BinaryIO) -> None:
        self._sender, self._log = sender, log
        self._frames = FrameReader()

    def pump(self, source: int, target: int) -> None:
        while data := os.read(source, 2**16):
            # Noted before it is passed on, so that no answer is noted before its request.
            for body in self._frames.feed(data):
                if isinstance(body, bytes):
                    self._note(msgspec.json.decode(body))
            view = memoryview(data)
            while view:
                view = view[os.write(target, view) :]

    def _note(self, message: dict[str, Any]) -> None:
        method = message.get("method")
        cancels = message["params"]["id"] if method == CANCEL else None
        note = Note(self._sender, method, message.get("id"), cancels)
        self._log.write(msgspec.json.encode(note) + b"\n")  # unbuffered: a line is one write


def main() -> int:
    log, command = Path(sys.argv[1]), sys.argv[2:]
    with log.open("ab", buffering=0) as notes, Popen(command, stdin=PIPE, stdout=PIPE) as server:
        assert server.stdin is not None and server.stdout is not None
        answers = threading.Thread(
            target=Tap("server", notes).pump, args=(server.stdout.fileno(), sys.stdout.fileno())
        )
        answers.start()
        # A server that has ended is heard of by the end of its output.
        with contextlib.suppress(BrokenPipeError):
            Tap("client", notes).pump(sys.stdin.fileno(), server.stdin.fileno())
        server.stdin.close()
        answers.join()
        return server.wait()


if __name__ == "__main__":
    sys.exit(main())
