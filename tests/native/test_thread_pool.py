import sys
import time

import numpy as np
import pytest

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
