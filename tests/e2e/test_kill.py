"""A killed engine costs one clear error and a restart, never the server."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.e2e.conftest import COUNTING, COUNTING_PLACE
from tests.e2e.stdio_client import StdioClient

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.model,
    pytest.mark.skipif(sys.platform != "linux", reason="finds the engine's process in /proc"),
]

ANSWER_S = 5.0  # from the kill to the next answer
REQUEST_FAILED = -32803

# Long enough that the small model reads it for seconds, so that the kill comes in the middle.
LONG = "".join(f"def f{i}(value):\n    return value * {i}\n\n\n" for i in range(500))


@pytest_asyncio.fixture
async def client(server_command: list[str]) -> AsyncIterator[StdioClient]:
    client = await StdioClient.start(server_command)
    await client.request(
        "initialize",
        {
            "capabilities": {"textDocument": {"inlineCompletion": {}}},
            "initializationOptions": {
                "prefixChars": len(LONG),
                "deadlineMs": 120_000,
                "candidates": 1,
            },
        },
    )
    client.notify("initialized")
    # Twice, for what was offered in one document is served there again without the engine.
    open_document(client, "file:///counting.py", COUNTING)
    open_document(client, "file:///again.py", COUNTING)
    open_document(client, "file:///long.py", LONG)
    yield client
    if client.process.returncode is None:
        client.process.kill()
        await client.process.wait()


def open_document(client: StdioClient, uri: str, text: str) -> None:
    document = {"uri": uri, "languageId": "python", "version": 1, "text": text}
    client.notify("textDocument/didOpen", {"textDocument": document})


def ask(client: StdioClient, uri: str, place: tuple[int, int]) -> asyncio.Future[dict[str, Any]]:
    return client.send_request(
        "textDocument/inlineCompletion",
        {
            "textDocument": {"uri": uri},
            "position": {"line": place[0], "character": place[1]},
            "context": {"triggerKind": 1},
        },
    )


def texts(answer: dict[str, Any]) -> list[str]:
    return [item["insertText"] for item in answer["result"]["items"]]


def child_of(pid: int) -> int:
    """The only child of a process: proc_pid_stat(5) names every process's parent."""
    children: list[int] = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # a process that ended meanwhile
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            children.append(int(path.parent.name))
    (child,) = children
    return child


async def test_a_kill_during_a_completion_costs_that_request_only(client: StdioClient) -> None:
    warm = await ask(client, "file:///counting.py", COUNTING_PLACE)
    assert warm["result"]["items"], warm
    engine = child_of(client.process.pid)

    pending = ask(client, "file:///long.py", (LONG.count("\n"), 0))
    await asyncio.sleep(0.5)
    assert not pending.done(), "the completion ended before the kill"
    os.kill(engine, signal.SIGKILL)
    async with asyncio.timeout(ANSWER_S):
        error = (await pending)["error"]
    assert error["code"] == REQUEST_FAILED
    assert "engine process ended" in error["message"]
    assert "Traceback" not in error["message"]

    killed_s = time.monotonic()
    answer = await ask(client, "file:///again.py", COUNTING_PLACE)
    assert texts(answer) == texts(warm)
    assert time.monotonic() - killed_s < ANSWER_S
    assert client.process.returncode is None
    assert child_of(client.process.pid) != engine
    assert await client.stop() == 0


async def test_an_engine_killed_while_idle_is_not_noticed(client: StdioClient) -> None:
    warm = await ask(client, "file:///counting.py", COUNTING_PLACE)
    os.kill(child_of(client.process.pid), signal.SIGKILL)
    async with asyncio.timeout(ANSWER_S):
        answer = await ask(client, "file:///again.py", COUNTING_PLACE)
    assert texts(answer) == texts(warm)
    assert await client.stop() == 0
