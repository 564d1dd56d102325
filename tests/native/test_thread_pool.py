"""Threads that share a step: asleep when idle, and of no influence on any result."""

import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from engine import _native
from engine.errors import NativeError
from engine.ops import Activation
from engine.program import Program
from tests.native.program_runner import ProgramRunner, f32_weight

ASLEEP_AFTER_S = 2.0
IDLE_S = 1.0
MOST_IDLE_CPU_S = 0.02  # of this process: the test's own few milliseconds, and a clock's tick


@pytest.mark.skipif(sys.platform == "win32", reason="its clock of processor time is too coarse")
@pytest.mark.parametrize("n_threads", [1, 2, 4])
def test_an_idle_engine_uses_no_processor_time(n_threads: int) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 64), np.float32)
    weight = f32_weight("w", rng.standard_normal((64, 64), np.float32))
    runner = ProgramRunner(
        lambda program, y: program.linear(y, weight[0]), x, {"w": weight}, n_threads=n_threads
    )
    first = runner.run()
    time.sleep(ASLEEP_AFTER_S)
    start_s = time.process_time()
    time.sleep(IDLE_S)
    assert time.process_time() - start_s < MOST_IDLE_CPU_S
    np.testing.assert_array_equal(runner.run(), first)  # and its threads wake up again


def layers(n_layers: int, n_threads: int) -> ProgramRunner:
    """A chain of matrix multiplications and elementwise ops, of stages long and short."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((24, 256), np.float32)
    weights = {
        f"w{i}": f32_weight(f"w{i}", rng.standard_normal((256, 256), np.float32) / 16)
        for i in range(n_layers)
    }

    def build(p: Program, y: Activation) -> Activation:
        for weight, _ in weights.values():
            y = p.linear(p.silu_mul(y, y), weight, residual=y)
        return y

    return ProgramRunner(build, x, weights, n_threads=n_threads)


@pytest.mark.parametrize("n_threads", [2, 3, 16])
def test_more_threads_than_cores_change_no_bit(n_threads: int) -> None:
    expected = layers(8, n_threads=1)
    runner = layers(8, n_threads=n_threads)
    for rows in ([0], list(range(24)), [3, 5]):
        for _ in range(20):
            np.testing.assert_array_equal(runner.run(rows), expected.run(rows))


def test_engines_of_several_threads_run_beside_each_other() -> None:
    expected = layers(8, n_threads=1).run()
    runners = [layers(8, n_threads=2) for _ in range(3)]
    with ThreadPoolExecutor(len(runners)) as callers:
        for found in callers.map(lambda i: runners[i % 3].run(), [0, 1, 2]):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("n_threads", [0, 5000])
def test_a_senseless_number_of_threads_is_refused(n_threads: int) -> None:
    with pytest.raises(NativeError, match=f"{n_threads} threads, expected 1"):
        _native.ThreadPool(n_threads)
