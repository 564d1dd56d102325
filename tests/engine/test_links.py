import asyncio
import logging
import os
import signal
import sys
import time

import pytest

from engine import links
from engine.config import EngineConfig
from engine.errors import EngineDiedError
from engine.frames import (
    Accepted,
    Done,
    Generate,
    Load,
    Loaded,
    LoadFailed,
    Progress,
    Text,
    ToParent,
)
from engine.links import ChildLink, Link, ThreadLink
from tests.engine.fake_engine import STRAY, request

pytestmark = pytest.mark.timeout(60)
FAKE = "tests.engine.fake_engine:FakeEngine"
KINDS = [ChildLink, ThreadLink]


async def receive_until(link: Link, kind: type) -> list[ToParent]:
    frames = [await link.receive()]
    while not isinstance(frames[-1], kind):
        assert frames[-1] is not None, f"ended without {kind.__name__}: {frames}"
        frames.append(await link.receive())
    return frames


async def loaded(kind: type[Link], model: str = "fake") -> Link:
    link = kind(FAKE)
    await link.open()
    link.send(Load(EngineConfig(model=model)))
    await receive_until(link, Loaded)
    return link


@pytest.mark.parametrize("kind", KINDS)
async def test_a_link_carries_a_whole_life(kind):
    link = await loaded(kind)
    link.send(Generate(1, request("say a b")))
    frames = await receive_until(link, Done)
    assert frames[0] == Accepted(1)
    assert [frame.text for frame in frames[1:-1]] == ["a", "b"]
    assert frames[-1].result.text == "ab"
    ended = await link.close()
    assert ended.startswith("exit code 0" if kind is ChildLink else "the thread ended")
    link.send(Generate(2, request("say too late")))


@pytest.mark.parametrize("kind", KINDS)
async def test_a_failed_load_ends_the_link_by_itself(kind):
    link = kind(FAKE)
    await link.open()
    link.send(Load(EngineConfig(model="missing")))
    await receive_until(link, LoadFailed)
    assert await link.receive() is None
    await link.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_closing_cancels_what_runs_and_may_be_repeated(kind):
    link = await loaded(kind)
    link.send(Generate(1, request("slow 1000 0.05")))
    await receive_until(link, Text)
    start_s = time.monotonic()
    assert await link.close() == await link.close()
    assert time.monotonic() - start_s < 1.5


@pytest.mark.parametrize("kind", KINDS)
async def test_closing_what_was_never_opened_is_fine(kind):
    assert await kind(FAKE).close() in ("never started", "the thread ended")


async def test_a_child_that_does_not_listen_is_closed_all_the_same():
    link = await loaded(ChildLink)
    link.send(Generate(1, request("hang")))
    await asyncio.sleep(0.1)
    assert (await link.close()).startswith("exit code 3")


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
async def test_a_stopped_child_is_killed(monkeypatch, caplog):
    monkeypatch.setattr(links, "SHUTDOWN_TIMEOUT_S", 0.2)
    monkeypatch.setattr(links, "FORCE_TIMEOUT_S", 0.2)
    link = await loaded(ChildLink)
    os.kill(link.pid, signal.SIGSTOP)
    assert (await link.close()).startswith("killed by SIGKILL")
    assert "does not end when asked to" in caplog.text


async def test_a_thread_that_does_not_listen_is_left_behind(monkeypatch, caplog):
    monkeypatch.setattr(links, "SHUTDOWN_TIMEOUT_S", 0.2)
    link = ThreadLink(FAKE)
    link.send(Load(EngineConfig(model="slow")))
    await receive_until(link, Progress)
    assert await link.close() == "the thread hangs"
    assert "leaving it behind" in caplog.text
    link._thread.join()


@pytest.mark.parametrize(
    ("prompt", "how"),
    [("crash 7", "exit code 7: dying with 7"), ("crash 0", "exit code 0: dying with 0")],
)
async def test_a_death_is_described_with_the_last_words(prompt, how):
    link = await loaded(ChildLink)
    link.send(Generate(1, request(prompt)))
    assert await link.receive() == Accepted(1)
    assert await link.receive() is None
    assert await link.close() == how


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
async def test_a_death_by_signal_names_the_signal():
    link = await loaded(ChildLink)
    os.kill(link.pid, signal.SIGKILL)
    assert await link.receive() is None
    assert (await link.close()).startswith("killed by SIGKILL")


async def test_what_the_child_prints_goes_to_our_log(caplog):
    caplog.set_level(logging.INFO, logger="flash_lsp.engine")
    link = await loaded(ChildLink)
    link.send(Generate(1, request("print x")))
    await receive_until(link, Done)
    await link.close()
    assert f"[{link.pid}] {STRAY[:4000]}" in caplog.text
    assert "fake engine closed" in caplog.text, "to the very end"


async def test_an_endless_line_does_not_pile_up(caplog, monkeypatch):
    caplog.set_level(logging.INFO, logger="flash_lsp.engine")
    monkeypatch.setattr(links, "_MAX_LINE_BYTES", 1000)
    link = await loaded(ChildLink)
    link.send(Generate(1, request("print x")))
    await receive_until(link, Done)
    await link.close()
    assert max(len(record.getMessage()) for record in caplog.records) < 6000 < len(STRAY)


@pytest.mark.skipif(sys.platform != "linux", reason="finds the pipe in /proc")
async def test_a_child_that_sends_garbage_is_ended_with_a_reason(tmp_path, monkeypatch):
    (tmp_path / "babbler.py").write_text(
        "import os\n"
        "class Babbler:\n"
        "    def load(config, on_progress):\n"
        "        os.write(BABBLE, b'\\xff' * 100)\n"
        "BABBLE = max(int(fd) for fd in os.listdir('/proc/self/fd') if "
        "os.path.exists(f'/proc/self/fd/{fd}') and 'pipe' in os.readlink(f'/proc/self/fd/{fd}'))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    link = ChildLink("babbler:Babbler")
    await link.open()
    link.send(Load(EngineConfig(model="fake")))
    assert await link.receive() is None
    assert (await link.close()).startswith("broken frame: announces 4294967295 bytes")


async def test_a_child_that_cannot_be_started_is_a_typed_error(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    link = ChildLink(FAKE)
    with pytest.raises(EngineDiedError, match="could not start .*no-python"):
        await link.open()
    assert await link.close() == "never started"


async def test_the_child_imports_from_our_path_and_not_from_where_we_stand(monkeypatch, tmp_path):
    (tmp_path / "msgspec.py").write_text("raise SystemExit('imported from the workspace')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    link = await loaded(ChildLink)
    assert (await link.close()).startswith("exit code 0")
