import logging
import threading
import time
from collections.abc import Callable

import pytest

from engine.config import EngineConfig
from engine.errors import DeviceLostError, EngineError
from engine.frames import (
    Cancel,
    Done,
    Failed,
    Generate,
    GetStats,
    Loaded,
    LoadFailed,
    Progress,
    Select,
    Selected,
    Shutdown,
    Stats,
    StopText,
    Text,
    ToParent,
)
from engine.request import BACKGROUND, FinishReason, Segment, SelectRequest
from engine.worker import Worker
from tests.engine.fake_engine import request

FAKE = "tests.engine.fake_engine:FakeEngine"


class Running:
    """A worker on a thread of its own and everything it has said."""

    def __init__(
        self, model: str = "fake", engine: str = "tests.engine.fake_engine:FakeEngine", **options
    ):
        self.said: list[ToParent] = []
        self.changed = threading.Condition()
        self.failure: Exception | None = None
        self.worker = Worker(engine, self.hear, **options)
        self.thread = threading.Thread(target=self.run, args=(EngineConfig(model=model),))
        self.thread.start()

    def run(self, config: EngineConfig) -> None:
        try:
            self.worker.run(config)
        except Exception as error:
            self.failure = error

    def hear(self, frame: ToParent) -> None:
        with self.changed:
            self.said.append(frame)
            self.changed.notify_all()

    def wait_for(self, is_it: Callable[[ToParent], bool]) -> ToParent:
        with self.changed:
            assert self.changed.wait_for(lambda: any(map(is_it, self.said)), timeout=10), self.said
            return next(filter(is_it, self.said))

    def generate(self, id: int, prompt: str, **options) -> None:
        self.worker.handle(Generate(id, request(prompt, **options)))

    def answer(self, id: int) -> Done | Failed:
        return self.wait_for(lambda f: isinstance(f, Done | Failed) and f.id == id)

    def texts(self, id: int) -> list[str]:
        return [frame.text for frame in self.said if isinstance(frame, Text) and frame.id == id]

    def end(self) -> None:
        self.worker.close()
        self.thread.join(timeout=10)
        assert not self.thread.is_alive()


@pytest.fixture
def running():
    running = Running()
    yield running
    running.end()


def test_loading_is_reported_step_by_step(running):
    loaded = running.wait_for(lambda f: isinstance(f, Loaded))
    progress = [frame.progress.fraction for frame in running.said if isinstance(frame, Progress)]
    assert progress == [0.25, 0.75]
    assert loaded.info.name == "fake"


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"model": "missing"}, "ModelNotFoundError", "model 'missing' was not found: no such file"),
        ({"model": "bug"}, "EngineError", "internal error: ZeroDivisionError: in the loader"),
        ({"engine": "no_such_module:Engine"}, "EngineError", "No module named 'no_such_module'"),
        (
            {"engine": "tests.engine.fake_engine:Nothing"},
            "EngineError",
            "has no attribute 'Nothing'",
        ),
    ],
)
def test_a_failed_load_is_reported_and_ends_the_run(options, kind, message):
    running = Running(**options)
    running.thread.join(timeout=10)
    assert not running.thread.is_alive()
    failed = running.said[-1]
    assert isinstance(failed, LoadFailed)
    assert failed.error.kind == kind
    assert message in failed.error.message


def test_text_comes_before_the_result_which_has_all_of_it(running):
    running.generate(1, "say a b c")
    assert running.answer(1).result.text == "abc"
    assert running.texts(1) == ["a", "b", "c"]


def test_one_thread_runs_every_request(running):
    for id in range(3):
        running.generate(id, "thread")
    assert {running.answer(id).result.text for id in range(3)} == {running.thread.name}


def test_a_running_request_is_cancelled_at_once(running):
    running.generate(1, "slow 100 0.1")
    running.wait_for(lambda f: isinstance(f, Text))
    start_s = time.monotonic()
    running.worker.handle(Cancel(1))
    assert running.answer(1).result.finish_reason is FinishReason.CANCELLED
    assert time.monotonic() - start_s < 1


def test_stopping_the_text_is_not_cancelling(running):
    running.generate(1, "slow 100 0.02")
    running.wait_for(lambda f: isinstance(f, Text))
    running.worker.handle(StopText(1))
    result = running.answer(1).result
    assert result.finish_reason is FinishReason.STOP
    assert result.text == "".join(running.texts(1))


def test_a_waiting_request_is_cancelled_without_running(running):
    running.generate(1, "slow 3 0.1")
    running.generate(2, "say never")
    running.worker.handle(Cancel(2))
    assert running.answer(2).result.finish_reason is FinishReason.CANCELLED
    assert not any(isinstance(f, Done) and f.id == 1 for f in running.said)
    assert running.answer(1).result.finish_reason is FinishReason.LENGTH
    assert running.texts(2) == []


def test_the_newest_request_of_a_document_ends_the_older_ones(running):
    for id in range(5):
        running.generate(id, "slow 50 0.05" if id < 4 else "say last", document="a")
    reasons = [running.answer(id).result.finish_reason for id in range(5)]
    assert reasons == [FinishReason.CANCELLED] * 4 + [FinishReason.LENGTH]
    assert running.answer(4).result.text == "last"


def test_a_full_queue_is_an_answer():
    running = Running(max_waiting=1)
    running.generate(1, "slow 100 0.05")
    running.wait_for(lambda f: isinstance(f, Text))
    running.generate(2, "say waits")
    running.generate(3, "say refused")
    assert running.answer(3).error.kind == "EngineBusyError"
    running.end()


@pytest.mark.parametrize(
    ("prompt", "kind", "message", "level"),
    [
        ("overflow", "ContextOverflowError", "9000 tokens do not fit", logging.INFO),
        ("bug", "EngineError", "internal error: KeyError", logging.ERROR),
    ],
)
def test_a_failing_request_fails_alone(running, caplog, prompt, kind, message, level):
    caplog.set_level(logging.INFO)
    running.generate(1, prompt)
    running.generate(2, "say fine")
    error = running.answer(1).error
    assert error.kind == kind
    assert error.message.startswith(message)
    assert "Traceback" not in error.message
    assert running.answer(2).result.text == "fine"
    (record,) = [record for record in caplog.records if "request 1" in record.getMessage()]
    assert record.levelno == level
    assert bool(record.exc_info) == (level == logging.ERROR), "a traceback for bugs only"


def test_a_lost_device_answers_and_ends_the_run():
    running = Running()
    running.generate(1, "lost")
    assert running.answer(1).error.kind == "DeviceLostError"
    running.thread.join(timeout=10)
    assert isinstance(running.failure, DeviceLostError)


def test_time_in_the_queue_counts_against_the_deadline_and_is_reported(running):
    running.generate(1, "slow 3 0.1")
    running.generate(2, "deadline", deadline_ms=10_000)
    running.generate(3, "say late", deadline_ms=50)
    running.generate(4, "deadline")
    second, third = running.answer(2).result, running.answer(3).result
    assert 9_000 < float(second.text) < 9_800
    assert 200 < second.timings_ms.queue <= second.timings_ms.total < 5_000
    assert (third.text, third.finish_reason) == ("", FinishReason.DEADLINE)
    assert third.timings_ms.queue > 50
    assert running.answer(4).result.text == "None"


def test_stats_are_answered_while_a_request_runs_and_count_what_never_ran(running):
    running.generate(1, "say a b")
    running.answer(1)
    running.generate(2, "slow 100 0.05")
    running.generate(3, "say never")
    running.worker.handle(Cancel(3))
    running.worker.handle(GetStats(9))
    stats = running.wait_for(lambda f: isinstance(f, Stats)).stats
    assert not any(isinstance(frame, Done) and frame.id == 2 for frame in running.said)
    assert (stats.n_requests, stats.n_tokens) == (2, 2), "1, which is done, and 3, which never ran"
    assert stats.n_cancelled == 1


def test_closing_answers_everything():
    running = Running()
    running.generate(1, "slow 100 0.05")
    running.wait_for(lambda f: isinstance(f, Text))
    running.generate(2, "say never")
    running.end()
    reasons = [running.answer(id).result.finish_reason for id in (1, 2)]
    assert reasons == [FinishReason.CANCELLED] * 2
    running.generate(3, "say too late")
    assert "closing" in running.answer(3).error.message


def test_frames_that_are_no_requests_are_refused(running):
    with pytest.raises(EngineError, match="Shutdown frame, expected a request"):
        running.worker.handle(Shutdown())


def selection(query: str, **options) -> SelectRequest:
    segment = Segment(text="a\nb\n")
    return SelectRequest(query=query, segments=(segment,), budget_tokens=9, **options)


def test_a_selection_is_answered(running):
    running.worker.handle(Select(1, selection("say a")))
    answer = running.wait_for(lambda f: isinstance(f, Selected))
    assert (answer.id, answer.selection.kept_tokens) == (1, 1)


def test_work_in_the_background_yields_to_a_completion_and_is_done_after_it(running):
    running.worker.handle(Select(1, selection("slow 40 0.02", priority=BACKGROUND)))
    running.generate(2, "slow 40 0.02", priority=BACKGROUND)
    running.generate(3, "say a")
    assert running.answer(3).result.text == "a"
    assert not any(isinstance(f, Done | Selected) and f.id in (1, 2) for f in running.said)
    assert not running.wait_for(lambda f: isinstance(f, Selected)).selection.is_cancelled
    assert running.answer(2).result.finish_reason is FinishReason.LENGTH


@pytest.mark.parametrize("is_running", [True, False])
def test_a_cancelled_selection_says_so(running, is_running: bool):
    if not is_running:
        running.generate(1, "slow 20 0.02")
    running.worker.handle(Select(2, selection("slow 1000 0.02")))
    if is_running:
        running.generate(3, "say a")  # waits behind it
    running.worker.handle(Cancel(2))
    assert running.wait_for(lambda f: isinstance(f, Selected)).selection.is_cancelled


@pytest.mark.parametrize("model", ["calibrating", "calibrating:bad"])
def test_while_nothing_is_asked_for_the_engine_measures(model):
    running = Running(model)
    running.wait_for(lambda frame: isinstance(frame, Loaded))
    running.generate(1, "hello")
    assert isinstance(running.answer(1), Done)
    running.end()
    assert running.failure is None


def test_a_device_lost_while_measuring_ends_the_worker():
    running = Running("calibrating:lost")
    running.thread.join(timeout=10)
    assert isinstance(running.failure, DeviceLostError)
