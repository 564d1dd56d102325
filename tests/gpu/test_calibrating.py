"""A model's calibration on the emulated GPU, by a clock of our own."""

import queue
import threading
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from engine.backends.gpu.backend import GpuBackend
from engine.backends.gpu.defaults import TABLE, defaults_of
from engine.backends.gpu.emulated import EmulatedDriver
from engine.calibration import kept_calibrations
from engine.cancel import CancelToken
from engine.config import EngineConfig
from engine.engine import Engine
from engine.frames import Accepted, Done, Generate, Loaded, Progress, Text, ToParent
from engine.request import GenerateRequest, PromptPart
from engine.worker import Worker
from tests.engine.fake_engine import request
from tests.tiny_gguf import write_tiny_gguf

pytestmark = pytest.mark.usefixtures("host_compiler")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_gguf(tmp_path_factory.mktemp("model") / "tiny.gguf", "qwen2", "Q8_0")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's cache of its own, without the kernels' compilation."""
    kernels = tmp_path_of_kernels()
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda _: str(tmp_path))
    if kernels.exists():
        (tmp_path / "kernels").symlink_to(kernels)
    yield tmp_path


def tmp_path_of_kernels() -> Path:
    from engine.backends.gpu.images import cache_folder

    return cache_folder()


def load(path: Path, backend: str = "emulated", speculation: str = "lookup") -> Engine:
    config = EngineConfig(
        model=str(path),
        backend=backend,
        n_ctx=256,
        n_threads=1,
        speculation=speculation,  # type: ignore[arg-type]
    )
    return Engine.load(config)


def clock_of(step_s: float):
    """Every look at the clock finds it so much later."""
    ticks = count()
    return lambda: next(ticks) * step_s


def tokens(engine: Engine) -> list[int]:
    request = GenerateRequest(prompt=(PromptPart("def add(a, b):\n    return a"),), max_tokens=8)
    return engine.generate(request, CancelToken()).tokens


def test_the_table_has_what_was_published() -> None:
    assert defaults_of("gfx1151").tree_budget == 22
    assert defaults_of("gfx1100").tree_budget == 8
    assert defaults_of("gfx1151").prefill_rows == defaults_of("gfx1100").prefill_rows == 512
    assert defaults_of("unheard-of") is TABLE[""]
    assert all(defaults_of(f"sm_{n}").copies_ahead for n in (80, 90, 100, 120))  # platform_cuda.h


def prepare(engine: Engine) -> None:
    """All that is done before anything is measured."""
    while engine._model.prepare_some(engine._kv):
        pass


def test_until_it_is_measured_a_gpu_goes_by_the_table(cache: Path, path: Path) -> None:
    engine = load(path)
    assert engine._costs.is_guess
    assert engine._costs.most_rows == 1 + defaults_of("host").tree_budget
    assert kept_calibrations() == []


def test_a_calibration_replaces_the_table_and_is_kept(cache: Path, path: Path) -> None:
    engine = load(path)
    before = tokens(engine)
    found = engine.calibrate(clock_of(0.01))
    assert found is not None
    assert list(found.step_ms.values()) == pytest.approx([10.0] * len(found.step_ms))
    assert (found.device, found.draft_ms) == (engine.info.backend, {})
    assert not engine._costs.is_guess
    assert engine._costs.ms(1) == pytest.approx(10.0)
    assert kept_calibrations() == [found]
    assert tokens(engine) == before

    again = load(path)
    assert again._costs.ms(1) == pytest.approx(10.0)
    prepare(again)
    assert not again.prepare_some()  # there is nothing left to measure
    assert again._pool.n_free == load(path)._pool.n_free


def test_what_is_prepared_is_not_made_when_it_is_asked_for(
    cache: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = tokens(load(path))
    engine = load(path)
    prepare(engine)

    def record(_: object) -> None:
        raise AssertionError("a graph was missing")

    monkeypatch.setattr(engine._model._driver, "record", record)  # type: ignore[attr-defined]
    assert tokens(engine) == expected
    session = engine.session()
    session.append([1, 2, 3])
    assert len(session.verify([4] * 8, [-1, 0, 0, 1, 1, 2, 2, 3]).argmax) == 8


def test_prompts_are_read_as_was_measured(cache: Path, path: Path) -> None:
    engine = load(path)
    assert engine._calibrating is not None
    engine._calibrating._default_rows = engine._model.max_rows = 64
    found = engine.calibrate(clock_of(0.01))  # 16 and 64 rows take the same time
    assert found is not None
    assert set(found.prefill_ms) == {16, 32, 64}
    assert engine._model.max_rows == 64
    engine._calibrating._adopt(
        type(found)(device="", model="", step_ms={1: 1.0}, prefill_ms={16: 1.0, 64: 9.0})
    )
    assert engine._model.max_rows == 16
    assert tokens(engine) == tokens(load(path))


def test_moments_in_which_nothing_is_asked_for_are_enough(cache: Path, path: Path) -> None:
    engine = load(path)
    assert engine._calibrating is not None
    assert engine._calibrating._calibrator is not None
    engine._calibrating._calibrator._clock = clock_of(0.1)
    prepare(engine)
    n_moments = 0
    while engine.prepare_some():
        n_moments += 1
        if n_moments == 3:
            assert engine._costs.is_guess
            tokens(engine)
    assert 3 < n_moments <= 20  # of a tenth of a second each
    assert not engine._costs.is_guess
    assert len(kept_calibrations()) == 1


def test_nothing_is_measured_where_nothing_is_drafted(cache: Path, path: Path) -> None:
    engine = load(path, speculation="off")
    prepare(engine)
    assert not engine.prepare_some()


def test_the_processor_needs_none(cache: Path, path: Path) -> None:
    engine = load(path, backend="cpu")
    assert engine.calibrate() is None
    assert not engine.prepare_some()


def test_times_belong_to_a_device_and_its_kernels(cache: Path, monkeypatch) -> None:
    backend = GpuBackend(EmulatedDriver())
    before = backend.identity()
    assert backend.identity() == before
    monkeypatch.setattr("engine.backends.gpu.backend.kernel_source", lambda _: "other")
    assert backend.identity() != before
    monkeypatch.undo()
    backend._driver.arch = "another"
    assert backend.identity() != before


def test_a_worker_calibrates_by_itself_and_answers_meanwhile(cache: Path, path: Path) -> None:
    load(path).close()  # skips where kernels cannot be compiled
    said: queue.Queue[ToParent] = queue.Queue()
    worker = Worker("engine.engine:Engine", said.put)
    config = EngineConfig(
        model=str(path), backend="emulated", n_ctx=256, n_threads=1, speculation="lookup"
    )
    thread = threading.Thread(target=worker.run, args=(config,))
    thread.start()
    try:
        while not isinstance(frame := said.get(timeout=60), Loaded):
            assert isinstance(frame, Progress), frame
        worker.handle(Generate(1, request("def add(a, b):\n    return a", max_tokens=4)))
        while not isinstance(frame := said.get(timeout=60), Done):
            assert isinstance(frame, Accepted | Text), frame
        assert frame.result.tokens
        until = time.monotonic() + 60
        while not kept_calibrations():
            assert time.monotonic() < until
            time.sleep(0.02)
    finally:
        worker.close()
        thread.join(timeout=60)
    assert 1 in kept_calibrations()[0].step_ms
