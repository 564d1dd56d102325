"""StdioClient: a server process and raw JSON-RPC with it, for tests that look under the library."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any


class StdioClient:
    """Requests by id; whatever else the server says is kept in `notifications`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.notifications: list[dict[str, Any]] = []
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, command: Sequence[str]) -> "StdioClient":
        pipe = asyncio.subprocess.PIPE
        return cls(await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe))

    async def stop(self) -> int:
        """Shut the server down as an editor would; returns its exit code."""
        await self.request("shutdown")
        self.notify("exit")
        async with asyncio.timeout(10):
            await self._reading
            return await self.process.wait()

    def notify(self, method: str, params: object = None) -> None:
        self._send({"method": method, "params": params or {}})

    def send_request(self, method: str, params: object = None) -> asyncio.Future[dict[str, Any]]:
        """Send a request; the future holds the whole answer, result or error."""
        request_id = len(self._waiting)
        self._waiting[request_id] = asyncio.get_running_loop().create_future()
        self._send({"id": request_id, "method": method, "params": params or {}})
        return self._waiting[request_id]

    async def request(self, method: str, params: object = None) -> Any:
        """The result of a request; an error answer fails the test."""
        answer = await self.send_request(method, params)
        assert "error" not in answer, answer
        return answer["result"]

    def _send(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))

    async def _read(self) -> None:
        output = self.process.stdout
        assert output is not None
        while header := await output.readline():
            await output.readline()
            message = json.loads(await output.readexactly(int(header.split(b":")[1])))
            if "method" in message:
                self.notifications.append(message)
            else:
                self._waiting[message["id"]].set_result(message)
