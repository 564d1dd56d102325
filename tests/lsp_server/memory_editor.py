"""A client in memory, against the real server with a fake engine: no process, no pipes."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from engine.config import EngineConfig
from lsp_server.framing import FrameReader
from lsp_server.server import FlashServer, create_server
from tests.lsp_server.scripted_engine import ScriptedEngine

URI = "file:///work/app/main.py"


class ReplyError(Exception):
    """The server answered with an error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message = code, message


class Editor:
    """Speaks to a server as an editor does, and answers what the server asks."""

    def __init__(self, server: FlashServer) -> None:
        self.server = server
        self.received: list[dict[str, Any]] = []
        self.answers: dict[str, Any] = {}
        self._frames = FrameReader()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._n_sent = 0
        self._arrival = asyncio.Event()
        server.peer.write = self._take

    def send(self, message: dict[str, Any]) -> None:
        self.server.peer.receive(msgspec.json.encode({"jsonrpc": "2.0", **message}))

    def notify(self, method: str, params: Any = None) -> None:
        self.send({"method": method, "params": params})

    def begin(self, method: str, params: Any = None) -> tuple[int, asyncio.Future[Any]]:
        self._n_sent += 1
        answer = asyncio.get_running_loop().create_future()
        self._waiting[self._n_sent] = answer
        self.send({"id": self._n_sent, "method": method, "params": params})
        return self._n_sent, answer

    async def request(self, method: str, params: Any = None) -> Any:
        return await asyncio.wait_for(self.begin(method, params)[1], 5)

    def notified(self, method: str) -> list[Any]:
        return [m["params"] for m in self.received if m.get("method") == method]

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not is_so():
                await asyncio.sleep(0.001)

    async def initialize(self, options: Any = None, **capabilities: Any) -> dict[str, Any]:
        params = {
            "processId": None,
            "rootUri": None,
            "capabilities": capabilities,
            "initializationOptions": options,
            "workspaceFolders": [{"uri": "file:///work/app", "name": "app"}],
        }
        result = await self.request("initialize", params)
        self.notify("initialized", {})
        return result

    def open(
        self, text: str, language_id: str = "python", uri: str = URI, version: int = 1
    ) -> None:
        item = {"uri": uri, "languageId": language_id, "version": version, "text": text}
        self.notify("textDocument/didOpen", {"textDocument": item})

    def edit(self, text: str, line: int, character: int, version: int) -> None:
        at = {"line": line, "character": character}
        change = {"range": {"start": at, "end": at}, "text": text}
        document = {"uri": URI, "version": version}
        self.notify(
            "textDocument/didChange", {"textDocument": document, "contentChanges": [change]}
        )

    def _take(self, data: bytes) -> None:
        for body in self._frames.feed(data):
            assert isinstance(body, bytes), body
            message = msgspec.json.decode(body)
            self.received.append(message)
            if "method" in message and "id" in message:
                asyncio.get_running_loop().call_soon(self._answer, message)
            elif "id" in message and message["id"] in self._waiting:
                self._settle(self._waiting.pop(message["id"]), message)

    def _answer(self, message: dict[str, Any]) -> None:
        answer = self.answers.get(message["method"])
        if isinstance(answer, ReplyError):
            error = {"code": answer.code, "message": answer.message}
            self.send({"id": message["id"], "error": error})
        else:
            self.send({"id": message["id"], "result": answer})

    @staticmethod
    def _settle(answer: "asyncio.Future[Any]", message: dict[str, Any]) -> None:
        if answer.done():
            return
        if "error" in message:
            answer.set_exception(ReplyError(message["error"]["code"], message["error"]["message"]))
        else:
            answer.set_result(message["result"])


class Session:
    """An editor, its server and the engines the server has made, newest last."""

    def __init__(self, overrides: dict[str, Any] | None = None) -> None:
        self.engines: list[ScriptedEngine] = []
        self.in_process: list[bool] = []
        self.prepare: Callable[[ScriptedEngine], None] = lambda engine: None
        # Requests are counted by many tests: only those about prefetching have it.
        quiet = {"prefetch": False} if overrides is None else overrides
        self.server = create_server(self._make_engine, quiet)
        self.editor = Editor(self.server)

    @property
    def engine(self) -> ScriptedEngine:
        return self.engines[-1]

    def _make_engine(self, config: EngineConfig, in_process: bool) -> ScriptedEngine:
        engine = ScriptedEngine(config)
        self.prepare(engine)
        self.engines.append(engine)
        self.in_process.append(in_process)
        return engine

    async def begin(self, options: Any = None, **capabilities: Any) -> dict[str, Any]:
        """Initialize and wait until the engine has been started."""
        result = await self.editor.initialize(options, **capabilities)
        await self.editor.until(lambda: bool(self.engines))
        return result


def inline_params(
    line: int = 1, character: int = 4, *, uri: str = URI, trigger: int = 1, **more: Any
) -> dict[str, Any]:
    return {
        "textDocument": {"uri": uri},
        "position": {"line": line, "character": character},
        "context": {"triggerKind": trigger},
        **more,
    }
