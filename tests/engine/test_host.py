import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from engine.config import EngineConfig
from engine.frames import (
    Accepted,
    Cancel,
    Done,
    Failed,
    Generate,
    GetStats,
    Load,
    Loaded,
    LoadFailed,
    Progress,
    Shutdown,
    Stats,
    StopText,
    Text,
    ToChild,
    ToParent,
    encode,
)
from engine.request import EngineStats, FinishReason
from tests.engine.fake_engine import request

pytestmark = pytest.mark.timeout(30)
FAKE = "tests.engine.fake_engine:FakeEngine"
ROOT = Path(__file__).resolve().parents[2]


class Child:
    """The real child process, spoken to in bytes."""

    def __init__(self, model: str | None = "fake", *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "engine.host", *(arguments or ("--engine", FAKE))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self.unread = io.BufferedReader(self.process.stdout)
        self.errors = ""
        if model is not None:
            self.send(Load(EngineConfig(model=model)))

    def send(self, *frames: ToChild) -> None:
        self.process.stdin.write(b"".join(encode(frame) for frame in frames))

    def receive(self) -> ToParent | None:
        header = self.unread.read(4)
        if not header:
            return None
        body = self.unread.read(int.from_bytes(header, "little"))
        return msgspec.msgpack.decode(body, type=ToParent)

    def receive_until(self, kind: type) -> list[ToParent]:
        frames = [self.receive()]
        while not isinstance(frames[-1], kind):
            assert frames[-1] is not None, f"ended without {kind.__name__}: {frames}"
            frames.append(self.receive())
        return frames

    def end(self) -> int:
        """Wait for the end and return the exit code."""
        try:
            self.errors += self.process.stderr.read().decode(errors="replace")
            return self.process.wait(timeout=10)
        finally:
            self.process.kill()
            self.process.wait()
            for stream in (self.process.stdin, self.unread, self.process.stderr):
                stream.close()


@pytest.fixture
def child():
    child = Child()
    child.receive_until(Loaded)
    yield child
    if child.process.returncode is None:
        child.process.kill()
        child.end()


def test_a_whole_life_in_frames():
    child = Child()
    frames = child.receive_until(Loaded)
    assert [type(frame) for frame in frames] == [Progress, Progress, Loaded]
    child.send(Generate(1, request("say a b")))
    frames = child.receive_until(Done)
    assert frames[0] == Accepted(1)
    assert [frame.text for frame in frames[1:-1]] == ["a", "b"]
    child.send(GetStats(2))
    assert child.receive() == Stats(2, EngineStats(n_requests=1, n_tokens=2))
    child.send(Shutdown())
    assert child.receive() is None
    assert child.end() == 0
    assert "fake engine closed" in child.errors


def test_stray_prints_do_not_reach_the_frames(child):
    child.send(Generate(1, request("print fine")))
    assert child.receive_until(Done)[-1].result.text == "fine"
    child.process.stdin.close()
    child.end()
    assert "straystray" in child.errors


def test_cancel_and_stop_are_heard_while_a_request_runs(child):
    for id, frame, reason in [
        (1, Cancel(1), FinishReason.CANCELLED),
        (2, StopText(2), FinishReason.STOP),
    ]:
        child.send(Generate(id, request("slow 200 0.02")))
        child.receive_until(Text)
        child.send(frame)
        assert child.receive_until(Done)[-1].result.finish_reason is reason


def test_a_bug_costs_one_request_and_its_traceback_goes_to_the_log(child):
    child.send(Generate(1, request("bug")), Generate(2, request("say fine")))
    assert child.receive_until(Failed)[-1].error.kind == "EngineError"
    assert child.receive_until(Done)[-1].result.text == "fine"
    child.send(Shutdown())
    assert child.end() == 0
    assert "Traceback" in child.errors
    assert "KeyError: 'a secret of the implementation'" in child.errors


@pytest.mark.parametrize("model", ["missing", "bug"])
def test_a_failed_load_is_reported_and_ends_the_process(model):
    child = Child(model)
    assert isinstance(child.receive_until(LoadFailed)[-1], LoadFailed)
    assert child.end() == 0


LOSING_THE_PARENT = {
    "idle": ("fake", None, 0),
    "in a request": ("fake", "slow 10000 0.05", 0),
    "in a request that does not listen": ("fake", "hang", 3),
    "while loading": ("hang", None, 3),
}


@pytest.mark.parametrize("case", LOSING_THE_PARENT)
def test_a_lost_parent_ends_the_process_within_a_second(case):
    model, prompt, exit_code = LOSING_THE_PARENT[case]
    child = Child(model)
    child.receive_until(Loaded if model == "fake" else Progress)
    if prompt:
        child.send(Generate(1, request(prompt)))
        time.sleep(0.1)
    start_s = time.monotonic()
    child.process.stdin.close()
    assert child.end() == exit_code
    assert time.monotonic() - start_s < 1.5


def test_a_parent_lost_before_it_said_anything_is_a_clean_end():
    child = Child(None)
    child.process.stdin.close()
    assert child.end() == 0


def test_a_parent_that_reads_no_more_does_not_keep_the_process():
    child = Child()
    child.receive_until(Loaded)
    child.process.stdout.close()
    child.send(Generate(1, request("slow 10000 0.01")))
    time.sleep(0.1)
    child.process.stdin.close()
    assert child.end() == 0
    assert "the parent does not listen any more" in child.errors


def test_an_unreadable_frame_ends_the_process_with_a_reason(child):
    child.process.stdin.write(b"\xff\xff\xff\xff")
    assert child.end() == 0
    assert "announces 4294967295 bytes" in child.errors


def test_another_frame_than_load_first_is_refused():
    child = Child(None)
    child.send(GetStats(1))
    assert child.end() == 2
    assert "first frame is GetStats, expected Load" in child.errors


def test_wrong_usage_has_its_own_exit_code():
    child = Child(None, "--nonsense")
    assert child.end() == 2


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_an_interrupt_from_the_terminal_is_left_to_the_parent(child):
    child.process.send_signal(signal.SIGINT)
    child.send(Generate(1, request("say alive")))
    assert child.receive_until(Done)[-1].result.text == "alive"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_an_idle_child_uses_no_processor_time(child):
    child.send(Generate(1, request("say warm")))
    child.receive_until(Done)

    def cpu_ticks() -> int:
        fields = Path(f"/proc/{child.process.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    before = cpu_ticks()
    time.sleep(1)
    assert cpu_ticks() - before <= 1, "a tick is 10 ms"
