"""What a client may get wrong, one row each, against the real server process.

Every row ends with proof that the server still serves, or with the exit code it ended with.
"""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.e2e.raw_client import SERVER, RawClient, framed, inline_params

pytestmark = pytest.mark.e2e

TEXT = "def add(a, b):\n    \n"
REQUEST = {"jsonrpc": "2.0", "id": 77, "method": "flash/status"}


@pytest.fixture(scope="module")
def shared() -> Iterator[RawClient]:
    """One server for all rows that must not end it."""
    client = RawClient()
    client.initialize()
    client.open(TEXT)
    yield client
    client.end()
    assert client.junk == b""


@pytest.fixture
def start() -> Iterator[Callable[..., RawClient]]:
    clients: list[RawClient] = []

    def start_one(**options: Any) -> RawClient:
        clients.append(RawClient())
        clients[-1].initialize(**options)
        clients[-1].open(TEXT)
        return clients[-1]

    yield start_one
    for client in clients:
        client.end()
        assert client.junk == b""


@pytest.mark.parametrize(
    ("message", "request_id", "code"),
    [
        pytest.param(b'{"jsonrpc": "2.0", "id": 77,', None, -32700, id="bad JSON"),
        pytest.param(b"\xff\xfe\xfd", None, -32700, id="bad UTF-8"),
        pytest.param(b"", None, -32700, id="empty body"),
        pytest.param([REQUEST], None, -32600, id="batch"),
        pytest.param([], None, -32600, id="empty batch"),
        pytest.param({"id": 77, "method": "flash/status"}, 77, -32600, id="no jsonrpc"),
        pytest.param({**REQUEST, "jsonrpc": "1.0"}, 77, -32600, id="other jsonrpc"),
        pytest.param({**REQUEST, "id": None}, None, -32600, id="null id"),
        pytest.param({**REQUEST, "id": [1]}, None, -32600, id="array id"),
        pytest.param({**REQUEST, "method": "no/such"}, 77, -32601, id="unknown method"),
        pytest.param(
            {**REQUEST, "method": "textDocument/inlineCompletion", "params": {}},
            77,
            -32602,
            id="wrong params",
        ),
        pytest.param(
            {**REQUEST, "method": "textDocument/inlineCompletion"}, 77, -32602, id="no params"
        ),
        pytest.param(
            {**REQUEST, "method": "textDocument/completion", "params": [1]},
            77,
            -32602,
            id="params by position",
        ),
        pytest.param({**REQUEST, "method": "initialize"}, 77, -32600, id="second initialize"),
    ],
)
def test_a_malformed_message_gets_the_right_error(
    shared: RawClient, message: Any, request_id: Any, code: int
) -> None:
    shared.raw(framed(message))
    answer = shared.next(id=request_id)
    assert answer["error"]["code"] == code
    assert "Traceback" not in answer["error"]["message"]
    assert shared.complete() == "return a + b"


@pytest.mark.parametrize(
    "header",
    [
        b"content-length: %d\r\n\r\n",
        b"CONTENT-LENGTH:%d\r\n\r\n",
        b"Content-Length: %d\n\n",
        b"X-Trace: on\r\nContent-Length: %d\r\n\r\n",
        b"Content-Type: application/vscode-jsonrpc; charset=utf-8\r\nContent-Length: %d\r\n\r\n",
        b"\r\n\r\nContent-Length: %d\r\n\r\n",
    ],
)
def test_unusual_headers_are_accepted(shared: RawClient, header: bytes) -> None:
    shared.raw(framed(REQUEST, header))
    assert shared.next(id=77)["result"]["state"] == "ready"
    assert shared.complete() == "return a + b"


@pytest.mark.parametrize(
    "header",
    [
        b"Content-Length: many\r\n\r\n",
        b"Content-Length: -1\r\n\r\n",
        b"X-Length: 5\r\n\r\n",
        b"x" * 20_000 + b"\r\n\r\n",
    ],
)
def test_a_broken_header_is_answered_and_the_next_message_found(
    shared: RawClient, header: bytes
) -> None:
    shared.raw(header + b'{"lost": true}')
    shared.raw(framed(REQUEST))
    assert shared.next(id=None)["error"]["code"] == -32600
    assert shared.next(id=77)["result"]["state"] == "ready"


def test_one_byte_at_a_time_works(shared: RawClient) -> None:
    for byte in framed(REQUEST):
        shared.raw(bytes([byte]))
    assert shared.next(id=77)["result"]["state"] == "ready"


def test_a_message_over_the_limit_is_refused_and_passed_over(shared: RawClient) -> None:
    n_bytes = 64 * 2**20 + 1
    shared.raw(b"Content-Length: %d\r\n\r\n" % n_bytes)
    error = shared.next(id=None)["error"]
    assert (error["code"], str(n_bytes) in error["message"]) == (-32600, True)
    for _ in range(64):
        shared.raw(b" " * 2**20)
    shared.raw(b" " + framed(REQUEST))
    assert shared.next(id=77)["result"]["state"] == "ready"


def test_a_change_to_an_unopened_file_is_survived(shared: RawClient) -> None:
    where = {"start": {"line": 0, "character": 0}, "end": {"line": 0, "character": 0}}
    changes = [{"range": where, "text": "x"}]
    document = {"uri": "file:///never/opened.py", "version": 2}
    shared.send(
        method="textDocument/didChange",
        params={"textDocument": document, "contentChanges": changes},
    )
    said = "'textDocument/didChange' had no effect: document 'file:///never/opened.py' is not open"
    while said not in shared.next(method="window/logMessage")["params"]["message"]:
        pass  # what earlier rows were told
    assert shared.complete() == "return a + b"


def test_unknown_notifications_are_ignored(shared: RawClient) -> None:
    shared.send(method="$/unknown", params={})
    shared.send(method="unknown/unknown", params=[1])
    shared.send(method="$/cancelRequest", params={"id": 12345})
    shared.send(method="$/cancelRequest", params=5)
    assert shared.complete() == "return a + b"


def test_half_a_character_is_survived(shared: RawClient) -> None:
    document = b'"textDocument": {"uri": "file:///app/half.py", "languageId": "python",'
    shared.raw(
        framed(
            b'{"jsonrpc": "2.0", "method": "textDocument/didOpen", "params": {%b'
            b'"version": 1, "text": "x = \\ud83d \\u0000"}}}' % document
        )
    )
    assert shared.complete() == "return a + b"


def test_a_running_request_can_be_cancelled(start: Callable[..., RawClient]) -> None:
    client = start(initializationOptions={"model": "held"})
    client.send(id=1, method="textDocument/inlineCompletion", params=inline_params())
    time.sleep(0.1)
    began = time.monotonic()
    client.send(method="$/cancelRequest", params={"id": 1})
    assert client.next(id=1)["error"]["code"] == -32800
    assert time.monotonic() - began < 2


def test_of_two_live_requests_with_one_id_the_second_is_refused(
    start: Callable[..., RawClient],
) -> None:
    client = start(initializationOptions={"model": "held"})
    for _ in range(2):
        client.send(id=1, method="textDocument/inlineCompletion", params=inline_params())
    assert client.next(id=1)["error"]["code"] == -32600
    client.send(method="$/cancelRequest", params={"id": 1})
    assert client.next(id=1)["error"]["code"] == -32800


def test_requests_do_not_wait_for_each_other(start: Callable[..., RawClient]) -> None:
    client = start(initializationOptions={"model": "held"})
    client.send(id=1, method="textDocument/inlineCompletion", params=inline_params())
    assert client.request("flash/status")["state"] in ("starting", "ready")
    client.send(method="$/cancelRequest", params={"id": 1})
    assert client.next(id=1)["error"]["code"] == -32800


def test_before_initialize_requests_are_refused() -> None:
    client = RawClient()
    client.raw(framed(REQUEST))
    assert client.next(id=77)["error"]["code"] == -32002
    client.initialize()
    client.raw(framed(REQUEST))
    assert "result" in client.next(id=77)
    client.end()


def test_an_absurd_length_ends_the_server_with_an_error(start: Callable[..., RawClient]) -> None:
    client = start()
    client.raw(b"Content-Length: 2147483648\r\n\r\n")
    assert client.next(id=None)["error"]["code"] == -32600
    assert client.wait() == 1


def test_shutdown_then_exit_is_success(start: Callable[..., RawClient]) -> None:
    client = start()
    assert client.request("shutdown") is None
    client.raw(framed(REQUEST))
    assert client.next(id=77)["error"]["code"] == -32600
    client.send(method="exit")
    assert client.wait() == 0


def test_exit_without_shutdown_is_failure(start: Callable[..., RawClient]) -> None:
    client = start()
    client.send(method="exit")
    assert client.wait() == 1


def test_the_end_of_the_input_ends_the_server(start: Callable[..., RawClient]) -> None:
    client = start()
    client.close_input()
    assert client.wait() == 0


def test_a_client_that_closes_its_ear_ends_the_server(start: Callable[..., RawClient]) -> None:
    client = start()
    client.stop_listening()
    with contextlib.suppress(BrokenPipeError):
        for _ in range(50):
            client.raw(framed(REQUEST))
            time.sleep(0.02)
    assert client.wait() == 1


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_a_lost_parent_ends_the_server(start: Callable[..., RawClient]) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as parent:
        client = start(processId=parent.pid)
        assert client.complete() == "return a + b"
        parent.kill()
        parent.wait()
        assert client.wait() == 1


def test_over_tcp_the_same_server_answers() -> None:
    command = [sys.executable, str(SERVER), "--tcp"]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        with socket.create_connection(("127.0.0.1", int(process.stderr.readline()))) as connection:
            initialize = {**REQUEST, "method": "initialize", "params": {"capabilities": {}}}
            shutdown, leave = {**REQUEST, "method": "shutdown"}, {"method": "exit"}
            for message in (initialize, shutdown, {"jsonrpc": "2.0", **leave}):
                connection.sendall(framed(message))
            answer = b""
            while chunk := connection.recv(65536):
                answer += chunk
        assert b"inlineCompletionProvider" in answer
        assert process.wait(20) == 0
