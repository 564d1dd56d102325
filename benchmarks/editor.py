"""An editor without a screen: a real server process over stdio, for benchmarks of whole sessions.

It answers what a server asks of its client, measures how long answers take and how much memory
the server has; what the server shows is dropped.
"""

import asyncio
import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.e2e.command import flash_lsp

START_S = 120.0


class SessionError(Exception):
    """The server answered with an error or ended."""


class Editor:
    """One server and its documents; `memory_bytes` samples it from the outside."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._versions: dict[str, int] = {}
        self._n_sent = 0
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(
        cls, folder: Path, cache: Path, model: str, options: Mapping[str, Any]
    ) -> "Editor":
        """Open a folder, with a cache folder of its own. Raises SessionError."""
        process = await asyncio.create_subprocess_exec(
            *flash_lsp("serve", "--model", model),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={**os.environ, "XDG_CACHE_HOME": str(cache)},
            limit=2**24,
        )
        editor = cls(process)
        await editor.request(
            "initialize",
            {
                "processId": None,
                "capabilities": {
                    "workspace": {"didChangeWatchedFiles": {"dynamicRegistration": True}}
                },
                "workspaceFolders": [{"uri": folder.as_uri(), "name": folder.name}],
                "initializationOptions": dict(options),
            },
        )
        editor.notify("initialized", {})
        return editor

    # --- documents ---

    def open(self, path: Path, text: str) -> None:
        uri = path.as_uri()
        self._versions[uri] = 1
        item = {"uri": uri, "languageId": "python", "version": 1, "text": text}
        self.notify("textDocument/didOpen", {"textDocument": item})

    def insert(self, path: Path, line: int, character: int, text: str) -> None:
        """Type a text in an open document."""
        uri = path.as_uri()
        self._versions[uri] += 1
        at = {"line": line, "character": character}
        self.notify(
            "textDocument/didChange",
            {
                "textDocument": {"uri": uri, "version": self._versions[uri]},
                "contentChanges": [{"range": {"start": at, "end": at}, "text": text}],
            },
        )

    def changed_on_disk(self, path: Path) -> None:
        changes = [{"uri": path.as_uri(), "type": 2}]
        self.notify("workspace/didChangeWatchedFiles", {"changes": changes})

    async def complete(self, path: Path, line: int, character: int) -> str:
        """What is offered while the user types; "" for nothing. Raises SessionError."""
        found = await self.request(
            "textDocument/inlineCompletion",
            {
                "textDocument": {"uri": path.as_uri()},
                "position": {"line": line, "character": character},
                "context": {"triggerKind": 2},
            },
        )
        return found["items"][0]["insertText"] if found["items"] else ""

    # --- the process ---

    def hold(self) -> None:
        """Stop the server's process, so that it takes nothing from others; its engine is idle."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def memory_bytes(self) -> int:
        """The server's own resident memory, without mapped files and without its engine."""
        fields = Path(f"/proc/{self._process.pid}/statm").read_text().split()
        return (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE")

    async def close(self) -> None:
        self.go_on()
        try:
            await self.request("shutdown")
            self.notify("exit", {})
            async with asyncio.timeout(20):
                await self._process.wait()
        finally:
            if self._process.returncode is None:
                self._process.kill()
                await self._process.wait()
            self._reading.cancel()

    # --- messages ---

    async def request(self, method: str, params: object = None) -> Any:
        """A request's result. Raises SessionError."""
        self._n_sent += 1
        answer = self._waiting[self._n_sent] = asyncio.get_running_loop().create_future()
        self._send({"id": self._n_sent, "method": method, "params": params})
        async with asyncio.timeout(START_S):
            return await answer

    def notify(self, method: str, params: object) -> None:
        self._send({"method": method, "params": params})

    def _send(self, message: Mapping[str, Any]) -> None:
        if self._process.stdin is None or self._process.returncode is not None:
            raise SessionError(f"the server has ended with {self._process.returncode}")
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))

    async def _read(self) -> None:
        output = self._process.stdout
        if output is None:
            raise SessionError("the server has no output")
        while header := await output.readline():
            await output.readline()
            message = json.loads(await output.readexactly(int(header.split(b":")[1])))
            if "method" not in message:
                self._take(message)
            elif "id" in message:
                self._send({"id": message["id"], "result": None})
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(SessionError("the server closed its output"))

    def _take(self, message: dict[str, Any]) -> None:
        answer = self._waiting.pop(message["id"])
        if answer.done():
            return  # it came too late
        if "error" in message:
            answer.set_exception(SessionError(f"the server refused: {message['error']}"))
        else:
            answer.set_result(message["result"])
