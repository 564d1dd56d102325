"""Work behind an answer: one task for each document, whose failures reach nobody but the log."""

import asyncio
import logging

import pytest

from engine.errors import EngineError
from lsp_server.ahead import Ahead


async def fail(error: Exception) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "level"), [(EngineError("gone"), logging.INFO), (ValueError("a bug"), logging.ERROR)]
)
async def test_a_failure_is_logged(
    caplog: pytest.LogCaptureFixture, error: Exception, level: int
) -> None:
    ahead = Ahead()
    with caplog.at_level(logging.INFO, "lsp_server.ahead"):
        ahead.follow("a", fail(error))
        await ahead.idle()
    assert [record.levelno for record in caplog.records] == [level]


@pytest.mark.filterwarnings("error")
async def test_work_dropped_before_it_began_is_no_leak() -> None:
    ahead, began = Ahead(), False

    async def work() -> None:
        nonlocal began
        began = True

    ahead.follow("a", work())
    ahead.drop("a")
    await asyncio.sleep(0)
    await ahead.idle()
    assert not began


async def test_newer_work_takes_the_place_of_older() -> None:
    ahead, done = Ahead(), list[str]()

    async def work(name: str) -> None:
        await asyncio.sleep(0)
        done.append(name)

    for name in ("old", "new"):
        ahead.follow("a", work(name))
    ahead.follow("b", work("other"))
    await ahead.idle()
    assert sorted(done) == ["new", "other"]
