import asyncio
import os
import subprocess
import sys
import threading
from typing import Any

import pytest

from lsp_server.framing import frame
from lsp_server.jsonrpc import Peer, RpcError
from lsp_server.transport import (
    Conversation,
    StdioWire,
    accept_one,
    process_exists,
    watch_parent,
)


def make_peer(**handlers: Any) -> Peer:
    table = {"initialize": lambda params: {}, "shutdown": lambda params: None, **handlers}
    return Peer(table.get, {}, lambda value: value, lambda method, e: RpcError(-32603, str(e)))


def request(method: str) -> bytes:
    return frame(b'{"jsonrpc":"2.0","id":1,"method":"%b"}' % method.encode())


class Pipes:
    """A StdioWire with our hands on its other ends."""

    def __init__(self, peer: Peer) -> None:
        in_fd, self.to_server = os.pipe()
        self.from_server, out_fd = os.pipe()
        self.open_fds = [in_fd, out_fd, self.to_server, self.from_server]
        self.wire = StdioWire(in_fd, out_fd, lambda: peer.exit(1))
        self.running = asyncio.create_task(Conversation(self.wire, peer).run())

    def close(self, fd: int) -> None:
        self.open_fds.remove(fd)
        os.close(fd)

    async def ends_with(self) -> int:
        code = await asyncio.wait_for(self.running, 10)
        for fd in list(self.open_fds):
            self.close(fd)
        return code


async def test_messages_come_and_go_over_pipes() -> None:
    pipes = Pipes(make_peer())
    os.write(pipes.to_server, request("initialize"))
    answer = await asyncio.to_thread(os.read, pipes.from_server, 1000)
    assert answer == frame(b'{"jsonrpc":"2.0","id":1,"result":{}}')
    pipes.close(pipes.to_server)
    assert await pipes.ends_with() == 0


async def test_input_that_ends_inside_a_message_is_a_failure() -> None:
    pipes = Pipes(make_peer())
    os.write(pipes.to_server, request("initialize")[:-3])
    pipes.close(pipes.to_server)
    assert await pipes.ends_with() == 1


async def test_what_was_said_before_the_end_is_delivered() -> None:
    big = "x" * 300_000  # more than a pipe holds
    pipes = Pipes(make_peer(big=lambda params: big))
    os.write(pipes.to_server, request("initialize") + request("big"))
    os.write(pipes.to_server, frame(b'{"jsonrpc":"2.0","method":"exit"}'))
    heard = bytearray()

    def listen() -> None:
        while not heard.endswith(b'x"}'):
            heard.extend(os.read(pipes.from_server, 65536))

    listener = threading.Thread(target=listen)
    listener.start()
    assert await asyncio.wait_for(pipes.running, 10) == 1
    await asyncio.to_thread(listener.join, 10)
    await pipes.ends_with()
    assert big.encode() in heard


async def test_a_client_that_does_not_read_never_stops_the_server() -> None:
    pipes = Pipes(make_peer(big=lambda params: "x" * 300_000))
    os.write(pipes.to_server, request("initialize") + request("big") * 5)
    pipes.close(pipes.to_server)  # the end is seen although nothing said was read
    assert await pipes.ends_with() == 0


async def test_a_client_that_reads_nothing_for_too_long_is_taken_for_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lsp_server.transport.MAX_UNSENT_BYTES", 1_000_000)
    pipes = Pipes(make_peer(big=lambda params: "x" * 300_000))
    os.write(pipes.to_server, request("initialize") + request("big") * 5)
    assert await pipes.ends_with() == 1


async def test_a_broken_output_ends_the_server() -> None:
    pipes = Pipes(make_peer())
    pipes.close(pipes.from_server)
    os.write(pipes.to_server, request("initialize"))
    assert await pipes.ends_with() == 1


async def test_one_client_is_served_over_tcp() -> None:
    peer, ports = make_peer(), asyncio.Queue[int]()
    accepting = asyncio.create_task(accept_one(0, ports.put_nowait, lambda: peer.exit(1)))
    port = await ports.get()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    running = asyncio.create_task(Conversation(await accepting, peer).run())
    writer.write(request("initialize"))
    assert (await reader.readuntil(b"}}")).endswith(b'"result":{}}')
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", port)
    writer.close()
    assert await running == 0


def test_a_process_that_ended_does_not_exist() -> None:
    with subprocess.Popen([sys.executable, "-c", "pass"]) as process:
        process.wait()
        assert not process_exists(process.pid)
    assert process_exists(os.getpid())


@pytest.mark.parametrize("process_id", [0, -1, 10**30])
def test_an_odd_process_id_is_taken_to_exist(process_id: int) -> None:
    assert process_exists(process_id)


async def test_the_loss_of_the_parent_is_noticed() -> None:
    lost = asyncio.Event()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as parent:
        watch = asyncio.create_task(watch_parent(parent.pid, lost.set, poll_s=0.01))
        await asyncio.sleep(0.05)
        assert not lost.is_set()
        parent.kill()
        parent.wait()
        await asyncio.wait_for(watch, 5)
    assert lost.is_set()
