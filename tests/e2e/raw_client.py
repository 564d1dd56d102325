"""A client that knows nothing but bytes: it can say anything to a server, well formed or not."""

import contextlib
import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SERVER = Path(__file__).with_name("serve_scripted.py")
URI = "file:///app/main.py"
TIMEOUT_S = 20.0


def framed(message: Any, header: bytes = b"Content-Length: %d\r\n\r\n") -> bytes:
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    return header % len(body) + body


class RawClient:
    """Starts a server process and reads what it says in the background."""

    def __init__(self, command: Sequence[str] = (sys.executable, str(SERVER))) -> None:
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self.junk = b""
        self._said: queue.Queue[dict[str, Any]] = queue.Queue()
        self._kept: list[dict[str, Any]] = []
        self._n_sent = 0
        self._is_deaf = False
        self._logged: list[bytes] = []
        self._threads = [
            threading.Thread(target=target, daemon=True) for target in (self._listen, self._log)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def log(self) -> str:
        return b"".join(self._logged).decode(errors="replace")

    def raw(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def send(self, **message: Any) -> None:
        self.raw(framed({"jsonrpc": "2.0", **message}))

    def next(self, **wanted: Any) -> dict[str, Any]:
        """The next message with these fields; others are kept for later."""
        end = time.monotonic() + TIMEOUT_S
        while True:
            for message in self._kept:
                if all(name in message and message[name] == v for name, v in wanted.items()):
                    self._kept.remove(message)
                    return message
            try:
                self._kept.append(self._said.get(timeout=max(0.01, end - time.monotonic())))
            except queue.Empty:
                raise AssertionError(f"no {wanted} in {self._kept}; log: {self.log}") from None

    def request(self, method: str, params: Any = None) -> Any:
        """The result of a request; an error reply is an AssertionError."""
        self._n_sent += 1
        self.send(id=f"r{self._n_sent}", method=method, params=params)
        answer = self.next(id=f"r{self._n_sent}")
        assert "result" in answer, answer
        return answer["result"]

    def initialize(self, **more: Any) -> None:
        self.request("initialize", {"processId": None, "capabilities": {}, **more})
        self.send(method="initialized", params={})

    def open(self, text: str) -> None:
        item = {"uri": URI, "languageId": "python", "version": 1, "text": text}
        self.send(method="textDocument/didOpen", params={"textDocument": item})

    def complete(self, line: int = 1, character: int = 4) -> str:
        """The text offered in the open document."""
        result = self.request("textDocument/inlineCompletion", inline_params(line, character))
        return result["items"][0]["insertText"] if result["items"] else ""

    def stop_listening(self) -> None:
        """Close our end of the server's output."""
        assert self.process.stdout is not None
        self._is_deaf = True
        self.raw(framed({"jsonrpc": "2.0", "id": "last", "method": "flash/status"}))
        self._threads[0].join(TIMEOUT_S)
        self.process.stdout.close()

    def wait(self) -> int:
        """The exit code, once the server has ended by itself."""
        return self.process.wait(TIMEOUT_S)

    def close_input(self) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()

    def end(self) -> None:
        self.close_input()
        try:
            self.process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for thread in self._threads:
            thread.join(TIMEOUT_S)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()

    def _listen(self) -> None:
        stream = self.process.stdout
        assert stream is not None
        while not self._is_deaf and (header := stream.readline()):
            name, _, value = header.partition(b": ")
            if name != b"Content-Length" or stream.readline() != b"\r\n":
                self.junk += header + stream.read()
                return
            self._said.put(json.loads(stream.read(int(value))))

    def _log(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._logged.append(line)


def inline_params(line: int = 1, character: int = 4) -> dict[str, Any]:
    return {
        "textDocument": {"uri": URI},
        "position": {"line": line, "character": character},
        "context": {"triggerKind": 1},
    }
