"""The child process that owns the model: `python -m engine.host [--engine module:attribute]`.

Reads frames from its standard input and writes frames to what was its standard output. It ends by
itself when the input does, so a lost parent leaves no process behind.

Exit codes: 0 asked to end, the parent is gone, or the load failed and was reported; 1 crashed;
2 wrong usage; 3 asked to end but the engine did not let go in time.
"""

import argparse
import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence

from engine.frames import Load, Shutdown, ToParent, read_frame, write_frame
from engine.worker import DEFAULT_ENGINE, Worker

CLOSE_GRACE_S = 0.5
_log = logging.getLogger("flash_lsp.engine")


def main(argv: Sequence[str] | None = None) -> int:
    """Run until the parent says or dies; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m engine.host", description=__doc__)
    parser.add_argument("--engine", default=DEFAULT_ENGINE, help="who loads models")
    engine: str = parser.parse_args(argv).engine
    incoming, outgoing = _claim_stdio()
    # Ctrl-C in a terminal reaches the whole process group; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(message)s")

    load = read_frame(incoming)
    if load is None:
        return 0
    if not isinstance(load, Load):
        _log.error("first frame is %s, expected Load", type(load).__name__)
        return 2
    worker = Worker(engine, _Outbox(outgoing).send)
    threading.Thread(
        target=_serve_frames, args=(incoming, worker), name="frames", daemon=True
    ).start()
    worker.run(load.config)
    return 0


def _claim_stdio() -> tuple[io.FileIO, io.FileIO]:
    """Take fds 0 and 1 for frames; whoever reads or prints gets nothing and stderr instead."""
    incoming, outgoing = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    # Unbuffered: a buffered reader's lock, held by a thread, breaks the interpreter's shutdown.
    return io.FileIO(incoming, "rb"), io.FileIO(outgoing, "wb")


class _Outbox:
    """Sends whole frames from any thread."""

    def __init__(self, stream: io.FileIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def send(self, frame: ToParent) -> None:
        """Send; a parent that is gone is not an error here, the end of our input ends us."""
        try:
            with self._lock:
                write_frame(self._stream, frame)
        except OSError as error:
            _log.info("the parent does not listen any more: %s", error)


def _serve_frames(incoming: io.FileIO, worker: Worker) -> None:
    """Act on frames until Shutdown or the end of the input, then end the process."""
    try:
        while (frame := read_frame(incoming)) is not None and not isinstance(frame, Shutdown):
            worker.handle(frame)
    except Exception:
        _log.exception("cannot understand the parent")
    closing = threading.Timer(CLOSE_GRACE_S, os._exit, args=[3])
    closing.daemon = True
    closing.start()
    worker.close()


if __name__ == "__main__":
    sys.exit(main())
