import asyncio
import json
from typing import Any

import msgspec
import pytest

from lsp_server.framing import FrameError, FrameReader
from lsp_server.jsonrpc import INTERNAL_ERROR, Peer, RpcError
from lsp_server.protocol import Message


class Params(Message):
    n: int


def to_error(method: str, error: BaseException) -> RpcError:
    return error if isinstance(error, RpcError) else RpcError(INTERNAL_ERROR, f"{method} failed")


class Wired:
    """A peer with a few handlers, and everything it said."""

    def __init__(self) -> None:
        self.said: list[dict[str, Any]] = []
        self.heard: list[Any] = []
        self.exits: list[int] = []
        self.let_go = asyncio.Event()
        self.handlers = {
            "initialize": lambda params: {"ready": True},
            "shutdown": lambda params: None,
            "double": lambda params: params.n * 2,
            "slow": self._slow,
            "fail": self._fail,
            "fail-late": self._fail_late,
            "odd": lambda params: {"an object of ours": object()},
            "note": self.heard.append,
            "note-fail": self._fail,
            "note-late": self._fail_late,
        }
        types = {"double": Params}
        self.peer = Peer(self.handlers.get, types, lambda value: value, to_error)
        frames = FrameReader()
        self.peer.write = lambda data: self.said.extend(map(msgspec.json.decode, frames.feed(data)))
        self.peer.on_exit = self.exits.append

    async def _slow(self, params: Any) -> str:
        await self.let_go.wait()
        return "slept"

    def _fail(self, params: Any) -> None:
        raise KeyError("/secret/path")

    async def _fail_late(self, params: Any) -> None:
        raise KeyError("/secret/path")

    def send(self, message: Any) -> None:
        self.peer.receive(message if isinstance(message, bytes) else json.dumps(message).encode())

    def call(self, request_id: Any, method: str, params: Any = None) -> None:
        self.send({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params})

    def tell(self, method: str, params: Any = None) -> None:
        self.send({"jsonrpc": "2.0", "method": method, "params": params})

    async def settle(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    def error(self) -> tuple[Any, int]:
        """The id and code of the one message said since the last look, which must be an error."""
        [message] = self.said
        self.said.clear()
        return message["id"], message["error"]["code"]


@pytest.fixture
async def wired() -> Wired:
    wired = Wired()
    wired.call(0, "initialize")
    wired.said.clear()
    return wired


@pytest.mark.parametrize(
    ("message", "request_id", "code"),
    [
        (b"{", None, -32700),
        (b"", None, -32700),
        (b"\xff\xfe{}", None, -32700),
        (b"\xef\xbb\xbf{}", None, -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":"double","params":{"n":}}', None, -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":"shutdown","params":["\xff"]}', 1, -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":"x\\ud800"', None, -32700),
        (b'{"jsonrpc":"2.0","method":"\\ud800","id":1e400}', None, -32700),
        (b'{"jsonrpc":"2.0","method":"\\\\ud800 \\ud800","id":NaN}', None, -32700),
        (b"[" * 200_000, None, -32600),
        (b'{"params":' * 200_000, None, -32700),
        (b"[]", None, -32600),
        (b'[{"jsonrpc":"2.0","id":1,"method":"double","params":{"n":1}}]', None, -32600),
        (b"3", None, -32600),
        (b"null", None, -32600),
        (b"{}", None, -32600),
        ({"id": 1, "method": "double", "params": {"n": 1}}, 1, -32600),
        ({"jsonrpc": "1.0", "id": 1, "method": "double"}, 1, -32600),
        ({"jsonrpc": 2, "id": "a", "method": "double"}, "a", -32600),
        ({"jsonrpc": "2.0", "id": 1}, 1, -32600),
        ({"jsonrpc": "2.0", "id": 1, "method": 5}, 1, -32600),
        ({"jsonrpc": "2.0", "id": 1, "method": None}, 1, -32600),
        ({"jsonrpc": "2.0", "id": None, "method": "double"}, None, -32600),
        ({"jsonrpc": "2.0", "id": 1.5, "method": "double"}, None, -32600),
        ({"jsonrpc": "2.0", "id": True, "method": "double"}, None, -32600),
        ({"jsonrpc": "2.0", "id": {"a": 1}, "method": "double"}, None, -32600),
        ({"jsonrpc": "2.0", "id": [1], "error": {}}, None, -32600),
        ({"jsonrpc": "2.0", "result": 5}, None, -32600),
        ({"jsonrpc": "2.0", "id": 1, "method": "no/such"}, 1, -32601),
        ({"jsonrpc": "2.0", "id": 1, "method": "$/no/such"}, 1, -32601),
        ({"jsonrpc": "2.0", "id": 1, "method": "double"}, 1, -32602),
        ({"jsonrpc": "2.0", "id": 1, "method": "double", "params": None}, 1, -32602),
        ({"jsonrpc": "2.0", "id": 1, "method": "double", "params": [3]}, 1, -32602),
        ({"jsonrpc": "2.0", "id": 1, "method": "double", "params": {"n": "3"}}, 1, -32602),
        ({"jsonrpc": "2.0", "id": 1, "method": "fail"}, 1, -32603),
        ({"jsonrpc": "2.0", "id": 1, "method": "odd"}, 1, -32603),
        ({"jsonrpc": "2.0", "id": 1, "method": "initialize"}, 1, -32600),
    ],
)
async def test_every_malformed_message_is_answered_and_the_next_one_works(
    wired: Wired, message: Any, request_id: Any, code: int
) -> None:
    wired.send(message)
    assert wired.error() == (request_id, code)
    wired.call(7, "double", {"n": 4})
    assert wired.said == [{"jsonrpc": "2.0", "id": 7, "result": 8}]


@pytest.mark.parametrize("request_id", [0, -1, 2**62, "", "x", "\u2028"])
async def test_an_id_comes_back_as_it_was(wired: Wired, request_id: int | str) -> None:
    wired.call(request_id, "double", {"n": 1})
    assert wired.said == [{"jsonrpc": "2.0", "id": request_id, "result": 2}]


async def test_half_a_surrogate_pair_is_replaced(wired: Wired) -> None:
    wired.send(b'{"jsonrpc":"2.0","method":"note","params":"a\\ud83dz \\ud83d\\ude00 \\udc00"}')
    assert wired.heard == ["a\ufffdz 😀 \ufffd"]


async def test_notifications_are_never_answered(wired: Wired) -> None:
    for method in ("note", "note-fail", "note-late", "no/such", "$/no/such", "double"):
        wired.tell(method)
    wired.tell("$/cancelRequest", {"id": 99})
    wired.tell("$/cancelRequest", {"id": [1]})
    wired.tell("$/cancelRequest")
    await wired.settle()
    assert wired.said == []
    assert wired.heard == [None]


async def test_only_protocol_extensions_are_ignored_silently(
    wired: Wired, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    wired.tell("$/whatever")
    assert caplog.messages == []
    wired.tell("whatever")
    assert caplog.messages == ["unknown notification 'whatever' was ignored"]


async def test_a_failing_handler_tells_no_secrets(wired: Wired) -> None:
    wired.call(1, "fail-late")
    await wired.settle()
    assert "secret" not in str(wired.said)
    assert wired.error() == (1, -32603)


async def test_a_cancelled_request_is_answered_so(wired: Wired) -> None:
    wired.call("a", "slow")
    await wired.settle()
    wired.tell("$/cancelRequest", {"id": "a"})
    await wired.settle()
    assert wired.error() == ("a", -32800)


async def test_a_second_request_with_a_live_id_is_refused(wired: Wired) -> None:
    wired.call(1, "slow")
    wired.call(1, "double", {"n": 1})
    assert wired.error() == (1, -32600)
    wired.let_go.set()
    await wired.settle()
    assert [m["result"] for m in wired.said] == ["slept"]
    wired.call(1, "double", {"n": 1})
    assert wired.said[-1]["result"] == 2


async def test_before_initialize_nothing_else_is_served() -> None:
    wired = Wired()
    wired.call(1, "double", {"n": 1})
    assert wired.error() == (1, -32002)
    wired.tell("note")
    assert (wired.heard, wired.said) == ([], [])
    wired.call(2, "initialize")
    assert wired.said[-1]["result"] == {"ready": True}


async def test_shutdown_cancels_what_runs_and_ends_service(wired: Wired) -> None:
    wired.call(1, "slow")
    await wired.settle()
    wired.call(2, "shutdown")
    await wired.settle()
    assert [(m["id"], m.get("error", {}).get("code")) for m in wired.said] == [
        (2, None),
        (1, -32802),
    ]
    wired.said.clear()
    wired.call(3, "double", {"n": 1})
    assert wired.error() == (3, -32600)
    wired.tell("exit")
    assert wired.exits == [0]


async def test_exit_without_shutdown_is_a_failure(wired: Wired) -> None:
    wired.tell("exit")
    wired.tell("exit")
    assert wired.exits == [1]


async def test_after_the_exit_nothing_is_said(wired: Wired) -> None:
    wired.call(1, "slow")
    await wired.settle()
    wired.peer.exit(0)
    wired.call(2, "double", {"n": 1})
    await wired.settle()
    assert wired.said == []


async def test_an_unreadable_frame_is_answered_and_a_fatal_one_ends_it(wired: Wired) -> None:
    wired.peer.reject(FrameError("too long"))
    assert wired.error() == (None, -32600)
    assert wired.exits == []
    wired.peer.reject(FrameError("far too long", is_fatal=True))
    assert wired.error() == (None, -32600)
    assert wired.exits == [1]


async def test_the_client_is_asked_and_its_answer_awaited(wired: Wired) -> None:
    asking = asyncio.create_task(wired.peer.ask("workspace/configuration", {"items": []}))
    await wired.settle()
    [asked] = wired.said
    assert asked["method"] == "workspace/configuration"
    wired.send({"jsonrpc": "2.0", "id": asked["id"], "result": [1]})
    assert await asking == [1]


@pytest.mark.parametrize(
    "error", [{"code": -32601, "message": "no"}, {"message": "no"}, "no", {"code": "x"}]
)
async def test_the_client_may_refuse(wired: Wired, error: Any) -> None:
    asking = asyncio.create_task(wired.peer.ask("x", None))
    await wired.settle()
    wired.send({"jsonrpc": "2.0", "id": wired.said[0]["id"], "error": error})
    with pytest.raises(RpcError):
        await asking


async def test_a_client_that_never_answers_is_not_waited_for(wired: Wired) -> None:
    with pytest.raises(TimeoutError):
        await wired.peer.ask("x", None, timeout_s=0.01)
    wired.send({"jsonrpc": "2.0", "id": wired.said[0]["id"], "result": 1})


async def test_answers_nobody_waits_for_are_ignored(wired: Wired) -> None:
    wired.send({"jsonrpc": "2.0", "id": "flash-9", "result": 1})
    wired.send({"jsonrpc": "2.0", "id": None, "error": {"code": 1, "message": "m"}})
    assert wired.said == []
