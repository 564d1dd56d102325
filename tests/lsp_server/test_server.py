import asyncio
import logging
import random
import subprocess
import sys

import msgspec

from engine.client import EngineClient, InProcessEngine
from engine.config import EngineConfig
from lsp_server.protocol import PARAMS
from lsp_server.server import create_server, default_engine
from tests.lsp_server.memory_editor import URI, Session, inline_params


def test_the_engine_lives_in_a_child_unless_asked_otherwise() -> None:
    config = EngineConfig(model="any")
    assert isinstance(default_engine(config, False), EngineClient)
    assert isinstance(default_engine(config, True), InProcessEngine)


def test_every_method_with_parameters_has_a_handler() -> None:
    assert set(PARAMS) <= set(create_server().handlers)


def test_overrides_are_settings_by_their_wire_names() -> None:
    assert create_server(settings_overrides={"maxTokens": 5}).settings.max_tokens == 5


def test_importing_the_server_loads_no_model_code() -> None:
    script = "import sys, lsp_server.server; print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert done.stdout.strip() == b"False"


async def test_a_mutilated_session_never_ends_the_server(session: Session) -> None:
    rng = random.Random(11)
    say = {
        "initialize": {"capabilities": {"general": {"positionEncodings": ["utf-8"]}}},
        "textDocument/didOpen": {"textDocument": {"uri": URI, "languageId": "c", "version": 1}},
        "textDocument/didChange": {"textDocument": {"uri": URI}, "contentChanges": [{"text": ""}]},
        "textDocument/inlineCompletion": inline_params(),
        "textDocument/completion": inline_params(),
        "workspace/executeCommand": {"command": "flash.completionAccepted", "arguments": [1]},
        "workspace/didChangeConfiguration": {"settings": {"flashLsp": {"threads": 1.5}}},
        "textDocument/didShowCompletion": {"item": {"insertText": "\\ud800"}},
        "$/cancelRequest": {"id": 1},
        "flash/stats": None,
    }
    messages = [
        msgspec.json.encode({"jsonrpc": "2.0", "id": n, "method": method, "params": params})
        for n, (method, params) in enumerate(say.items(), start=5000)
    ]
    scraps = [b"{", b"}", b"[", b'"', b",", b"null", b"-1", b"1e999", b"\\ud800", b"\xff", b"NaN"]
    for _ in range(3000):
        message = bytearray(rng.choice(messages))
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(message))
            message[at : at + rng.randrange(4)] = rng.choice([*scraps, rng.randbytes(2)])
        session.server.peer.receive(bytes(message))
    await asyncio.sleep(0.05)
    assert session.server.peer.exit_code is None
    assert (await session.editor.request("flash/status"))["state"] == "ready"


class MemoryWire:
    """A wire that ends when it is told to."""

    def __init__(self, session: Session) -> None:
        self.sent = bytearray()
        self._session = session

    async def read(self) -> bytes:
        await self._session.editor.until(lambda: self._session.server.peer.is_open)
        logging.getLogger("some.module").warning("the disk is full")
        await self._session.editor.until(lambda: b"disk" in self.sent)
        return b""

    def write(self, data: bytes) -> None:
        self.sent += data

    async def close(self) -> None:
        self.sent += b"closed"


async def test_warnings_reach_the_clients_log_and_the_end_closes_the_engine() -> None:
    session = Session()
    wire = MemoryWire(session)
    await session.begin()
    assert await session.server.serve(wire) == 0
    assert b"window/logMessage" in wire.sent
    assert b"the disk is full" in wire.sent
    assert session.engine.state == "closed"
