import asyncio
import gc
import logging
import os
import signal
import time

import pytest

from engine.client import (
    AsyncEngine,
    EngineClient,
    EngineState,
    EngineStatus,
    InProcessEngine,
    RestartPolicy,
)
from engine.config import EngineConfig
from engine.errors import (
    ContextOverflowError,
    DeviceLostError,
    EngineDiedError,
    EngineError,
    ModelNotFoundError,
    RequestError,
)
from engine.request import FinishReason, Segment, SelectRequest
from tests.engine.fake_engine import request

pytestmark = pytest.mark.timeout(60)
FAKE = "tests.engine.fake_engine:FakeEngine"
KINDS = [EngineClient, InProcessEngine]


@pytest.fixture
async def make():
    """Makes started engines, closes them, and lets no resource go unnoticed."""
    made: list[AsyncEngine] = []

    async def make(
        kind: type = EngineClient, model: str = "fake", backend: str = "cpu", **options
    ) -> AsyncEngine:
        engine = kind(EngineConfig(model=model, backend=backend), engine=FAKE, **options)
        engine.seen = []
        engine.on_state = engine.seen.append
        made.append(engine)
        await engine.start()
        return engine

    yield make
    for engine in made:
        await engine.close()
    gc.collect()


def states(engine: AsyncEngine) -> list[str]:
    """The states gone through, repetitions removed."""
    names = [status.state.value for status in engine.seen]
    return [name for i, name in enumerate(names) if i == 0 or names[i - 1] != name]


async def until(condition, timeout_s: float = 10) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.005)


async def start_slow(engine: AsyncEngine, prompt: str = "slow 1000 0.02", **options):
    """A request that is running: its task and the text it has produced so far."""
    texts: list[str] = []

    def on_text(text: str) -> bool:
        texts.append(text)
        return True

    task = asyncio.create_task(engine.generate(request(prompt, **options), on_text))
    await until(lambda: texts or task.done())
    return task, texts


@pytest.mark.parametrize("kind", KINDS)
async def test_the_way_to_ready_is_told(make, kind):
    engine = await make(kind)
    info = await engine.ready()
    assert info.name == "fake"
    assert states(engine) == ["starting", "loading", "ready"]
    loading = [s for s in engine.seen if s.state is EngineState.LOADING]
    assert [(s.fraction, s.message) for s in loading] == [(0.25, "reading"), (0.75, "almost there")]
    assert engine.status == EngineStatus(
        state=EngineState.READY, message="fake", fraction=1, info=info
    )


@pytest.mark.parametrize("kind", KINDS)
async def test_a_request_waits_for_the_model_and_streams_its_text(make, kind):
    engine = await make(kind)
    texts: list[str] = []
    result = await engine.generate(request("say a b c"), lambda text: not texts.append(text))
    assert texts == ["a", "b", "c"]
    assert (result.text, result.finish_reason) == ("abc", FinishReason.LENGTH)
    assert (await engine.stats()).n_requests == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_text_arrives_while_it_is_made(make, kind):
    engine = await make(kind)
    await engine.ready()
    arrived_s: list[float] = []
    await engine.generate(
        request("slow 5 0.1"), lambda text: not arrived_s.append(time.monotonic())
    )
    gaps_s = [b - a for a, b in zip(arrived_s, arrived_s[1:], strict=False)]
    assert len(gaps_s) == 4
    assert min(gaps_s) > 0.02


@pytest.mark.parametrize("kind", KINDS)
async def test_stopping_ends_with_stop_and_the_text_so_far(make, kind):
    engine = await make(kind)
    seen: list[str] = []

    def on_text(text: str) -> bool:
        seen.append(text)
        return len(seen) < 2

    result = await engine.generate(request("slow 1000 0.02"), on_text)
    assert result.finish_reason is FinishReason.STOP
    assert seen == ["w0 ", "w1 "], "nothing is asked after the answer was no"
    assert result.text.startswith("w0 w1 ")


@pytest.mark.parametrize("kind", KINDS)
async def test_cancelling_the_task_cancels_the_request(make, kind):
    engine = await make(kind)
    task, texts = await start_slow(engine)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    start_s = time.monotonic()
    assert (await engine.generate(request("say next"))).text == "next"
    assert time.monotonic() - start_s < 1
    assert (await engine.stats()).n_cancelled == 1
    n_texts = len(texts)
    await asyncio.sleep(0.1)
    assert len(texts) == n_texts


@pytest.mark.parametrize("kind", KINDS)
async def test_a_newer_request_of_a_document_ends_the_older_one(make, kind):
    engine = await make(kind)
    old, _ = await start_slow(engine, document="a")
    new = await engine.generate(request("say new", document="a"))
    assert (await old).finish_reason is FinishReason.CANCELLED
    assert new.text == "new"


@pytest.mark.parametrize("kind", KINDS)
async def test_engine_errors_arrive_as_they_were_and_the_engine_lives_on(make, kind):
    engine = await make(kind)
    with pytest.raises(ContextOverflowError, match="9000 tokens do not fit") as caught:
        await engine.generate(request("overflow"))
    assert caught.value.limit_tokens == 8192
    with pytest.raises(EngineError, match="internal error: KeyError"):
        await engine.generate(request("bug"))
    assert (await engine.generate(request("say fine"))).text == "fine"
    assert states(engine) == ["starting", "loading", "ready"]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_failing_on_text_fails_its_own_request(make, kind):
    engine = await make(kind)

    def on_text(text: str) -> bool:
        raise ValueError("bad consumer")

    with pytest.raises(ValueError, match="bad consumer"):
        await engine.generate(request("slow 1000 0.02"), on_text)
    assert (await engine.generate(request("say fine"))).text == "fine"


async def test_a_request_that_cannot_cross_fails_alone(make):
    engine = await make()
    with pytest.raises(RequestError, match="surrogates"):
        await engine.generate(request("say \ud800"))
    assert (await engine.generate(request("say fine"))).text == "fine"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_load_error_is_raised_to_everyone_and_not_tried_again(make, kind):
    engine = await make(kind, model="missing")
    for _ in range(2):
        with pytest.raises(ModelNotFoundError, match="no such file"):
            await engine.ready()
        with pytest.raises(ModelNotFoundError):
            await engine.generate(request("say x"))
        with pytest.raises(ModelNotFoundError):
            await engine.stats()
    assert states(engine) == ["starting", "loading", "failed"]
    assert engine.seen[-1].message == "model 'missing' was not found: no such file"
    assert engine.seen.count(engine.seen[-1]) == 1


async def test_a_killed_child_costs_one_clear_error_and_a_restart(make):
    engine = await make()
    await engine.ready()
    first_pid = engine.pid
    running, _ = await start_slow(engine)
    waiting = asyncio.create_task(engine.generate(request("say waiting")))
    await asyncio.sleep(0.05)
    start_s = time.monotonic()
    os.kill(first_pid, signal.SIGKILL)
    for task in (running, waiting):
        with pytest.raises(EngineDiedError, match="ended .killed by SIGKILL.*restarts by itself"):
            await task
    assert (await engine.generate(request("say again"))).text == "again"
    assert time.monotonic() - start_s < 5
    assert engine.pid != first_pid
    assert states(engine) == ["starting", "loading", "ready"] * 2


async def test_a_crash_is_told_with_its_last_words(make, caplog):
    engine = await make()
    with pytest.raises(EngineDiedError, match="exit code 7: dying with 7"):
        await engine.generate(request("crash 7"))
    assert "exit code 7: dying with 7" in caplog.text
    assert (await engine.generate(request("say fine"))).text == "fine"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_lost_device_is_answered_by_a_new_engine(make, kind):
    engine = await make(kind)
    with pytest.raises(EngineError, match="the device is gone"):
        await engine.generate(request("lost"))
    await until(lambda: states(engine).count("ready") == 2)
    assert (await engine.generate(request("say fine"))).text == "fine"


async def lose_device(engine: AsyncEngine) -> None:
    await engine.ready()
    n_before = states(engine).count("ready")
    with pytest.raises(DeviceLostError, match="the device is gone"):
        await engine.generate(request("lost"))
    await until(lambda: states(engine).count("ready") > n_before)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_gpu_lost_once_is_used_again_and_lost_twice_given_up(make, kind, caplog):
    engine = await make(kind, backend="cuda")
    await lose_device(engine)
    assert (await engine.generate(request("backend"))).text == "cuda"
    assert engine.status.fallback == ""
    await lose_device(engine)
    assert (await engine.generate(request("backend"))).text == "cpu"
    reason = engine.status.fallback
    assert reason.startswith("the GPU failed 2 times within 10 minutes: ")
    assert reason.endswith("attention: the device is gone; restart the engine to try it again")
    assert engine.status.message == f"fake on the processor: {reason}"
    assert reason in caplog.text
    await engine.restart()
    assert (await engine.generate(request("backend"))).text == "cuda"
    assert engine.status.fallback == ""
    assert engine.status.message == "fake"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_gpu_that_cannot_be_used_leaves_the_processor_serving(make, kind):
    engine = await make(kind, model="no-gpu", backend="hip")
    assert (await engine.generate(request("backend"))).text == "cpu"
    reason = "the GPU cannot be used: opening the device: there is none"
    assert engine.status.message.startswith(f"no-gpu on the processor: {reason}; ")
    assert "failed" not in states(engine)


async def test_a_driver_that_ends_the_process_leaves_the_processor_serving(make):
    engine = await make(model="lethal-gpu", backend="auto")
    assert (await engine.generate(request("backend"))).text == "cpu"
    assert "exit code 9: dying with 9" in engine.status.fallback


@pytest.mark.parametrize("kind", KINDS)
async def test_a_model_that_is_missing_is_missing_on_the_processor_too(make, kind):
    engine = await make(kind, model="missing", backend="cuda")
    with pytest.raises(ModelNotFoundError):
        await engine.ready()
    assert states(engine) == ["starting", "loading", "failed"]


async def test_a_child_that_dies_once_while_loading_is_tried_again(make, tmp_path):
    engine = await make(model=f"deadly-twice:{tmp_path / 'count'}")
    assert (await engine.generate(request("say third time"))).text == "thirdtime"


async def test_dying_again_and_again_while_loading_ends_in_failed_until_restart(make, caplog):
    engine = await make(model="lethal")
    for _ in range(2):
        with pytest.raises(
            EngineDiedError, match="3 times within 60 s while loading.*exit code 7: dying with 7"
        ):
            await engine.ready()
    assert states(engine)[-1] == "failed"
    n_deaths = caplog.text.count("the engine process ended")
    assert n_deaths == 3
    await engine.restart()
    with pytest.raises(EngineDiedError, match="3 times"):
        await engine.ready()


@pytest.mark.parametrize("kind", KINDS)
async def test_restart_loads_anew_and_fails_what_was_pending(make, kind):
    engine = await make(kind)
    task, _ = await start_slow(engine)
    await engine.restart()
    with pytest.raises(EngineDiedError, match="restarted on request"):
        await task
    assert (await engine.generate(request("say fine"))).text == "fine"
    assert states(engine) == ["starting", "loading", "ready"] * 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("when", ["at once", "while loading", "ready", "in a request", "failed"])
async def test_closing_at_any_time_is_quick_and_final(make, kind, when):
    model = {"while loading": "slow", "failed": "missing"}.get(when, "fake")
    engine = await make(kind, model=model)
    task = None
    if when == "while loading":
        await until(lambda: engine.state is EngineState.LOADING)
    elif when == "in a request":
        task, _ = await start_slow(engine)
    elif when != "at once":
        await until(lambda: engine.state in (EngineState.READY, EngineState.FAILED))
    start_s = time.monotonic()
    await engine.close()
    await engine.close()
    assert time.monotonic() - start_s < 1.5
    assert engine.status == EngineStatus(state=EngineState.CLOSED, message="closed")
    if task is not None:
        with pytest.raises(EngineError, match="the engine is closed"):
            await task
    for use in (engine.ready, engine.stats, engine.restart):
        with pytest.raises(EngineError, match="the engine is closed"):
            await use()
    await engine.start()
    assert engine.state is EngineState.CLOSED


async def test_those_who_wait_for_loading_are_told_of_the_close(make):
    engine = await make(model="slow")
    waiting = asyncio.create_task(engine.generate(request("say x")))
    await until(lambda: engine.state is EngineState.LOADING)
    await engine.close()
    with pytest.raises(EngineError, match="the engine is closed"):
        await waiting


async def test_a_loop_that_ends_without_close_leaves_no_child():
    def run() -> int:
        async def main() -> int:
            engine = EngineClient(EngineConfig(model="fake"), engine=FAKE)
            await engine.start()
            await engine.ready()
            return engine.pid

        return asyncio.run(main())

    pid = await asyncio.to_thread(run)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_failing_on_state_is_logged_and_harmless(make, caplog):
    engine = await make()

    def on_state(status: EngineStatus) -> None:
        raise ValueError("bad listener")

    engine.on_state = on_state
    await engine.ready()
    assert "bad listener" in caplog.text


async def test_many_requests_at_once_all_get_their_own_answer(make):
    engine = await make()
    texts: dict[int, list[str]] = {i: [] for i in range(40)}

    async def one(i: int) -> str:
        def on_text(text: str) -> bool:
            texts[i].append(text)
            return True

        return (await engine.generate(request(f"say r{i} end"), on_text)).text

    assert await asyncio.gather(*map(one, texts)) == [f"r{i}end" for i in texts]
    assert texts == {i: [f"r{i}", "end"] for i in texts}


async def test_a_long_prompt_and_a_long_text_cross(make):
    engine = await make()
    words = [f"w{i}" for i in range(20_000)]
    result = await engine.generate(request("say " + " ".join(words)))
    assert result.text == "".join(words)


async def test_being_killed_over_and_over_never_loses_an_answer(make, caplog):
    caplog.set_level(logging.CRITICAL)
    engine = await make()
    engine._restarts = RestartPolicy(max_deaths=100)
    stop = asyncio.Event()
    outcomes: list[str] = []

    async def ask() -> None:
        while not stop.is_set():
            try:
                result = await engine.generate(request("slow 3 0.01"))
                outcomes.append(result.text)
            except EngineDiedError:
                outcomes.append("died")

    askers = [asyncio.create_task(ask()) for _ in range(4)]
    for i in range(5):
        await engine.ready()
        await asyncio.sleep(0.01 * i)
        os.kill(engine.pid, signal.SIGKILL)
        await until(lambda: engine.state is not EngineState.READY)
    await engine.ready()
    stop.set()
    await asyncio.gather(*askers)
    assert set(outcomes) == {"w0 w1 w2 ", "died"}


POLICY = [
    ("loading deaths in a row", [(0, True), (1, True), (2, True)], [0, 0, None]),
    ("loading deaths far apart", [(0, True), (40, True), (80, True), (120, True)], [0] * 4),
    ("the third within the window", [(0, True), (40, True), (59, True)], [0, 0, None]),
    (
        "ready deaths only slow down",
        [(i, False) for i in range(10)],
        [0, 0, 0, 1, 2, 4, 8, 16, 30, 30],
    ),
    ("ready deaths far apart", [(i * 61, False) for i in range(5)], [0] * 5),
    (
        "ready deaths do not make a loading death final",
        [(0, False), (1, False), (2, True), (3, True), (4, True)],
        [0, 0, 0, 1, None],
    ),
]


@pytest.mark.parametrize(("deaths", "pauses_s"), [row[1:] for row in POLICY], ids=lambda _: "")
def test_the_restart_policy(deaths, pauses_s):
    policy = RestartPolicy(max_deaths=3, window_s=60)
    assert [policy.pause_s(now_s, was_loading=flag) for now_s, flag in deaths] == pauses_s


async def test_a_request_the_dead_child_never_got_is_answered_by_the_next_one(make):
    engine = await make()
    await engine.ready()
    os.kill(engine.pid, signal.SIGKILL)
    # The parent has not heard of the death yet: the request goes to a child that never reads it.
    assert (await engine.generate(request("say hello"))).text == "hello"


@pytest.mark.parametrize("kind", KINDS)
async def test_closing_right_after_a_failed_load_starts_nothing_again(make, kind, caplog):
    for _ in range(5):
        engine = await make(kind, model="missing")
        with pytest.raises(ModelNotFoundError):
            await engine.ready()
        await engine.close()
        assert states(engine) == ["starting", "loading", "failed", "closed"]
    assert "restarts by itself" not in caplog.text


@pytest.mark.parametrize("kind", KINDS)
async def test_a_selection_waits_for_the_model_and_can_be_cancelled(make, kind):
    engine = await make(kind)
    segments = (Segment(text="a\nb\n"),)
    found = await engine.select(SelectRequest(query="say a", segments=segments, budget_tokens=9))
    assert [span.end for span in found.spans[0]] == [2]
    slow = SelectRequest(query="slow 1000 0.02", segments=segments, budget_tokens=9)
    task = asyncio.create_task(engine.select(slow))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await engine.generate(request("say b"))).text == "b"
