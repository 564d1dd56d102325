import subprocess
import sys
import time

import pytest

from lsp_server.cli_bench_machine import OtherUse, read_bytes_per_s

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def test_memory_is_read_at_a_believable_speed() -> None:
    assert 0.1e9 < read_bytes_per_s(1) < 10e12


@linux_only
def test_a_busy_stranger_is_noticed_and_a_named_child_is_not() -> None:
    command = [sys.executable, "-c", "while True: pass"]
    with subprocess.Popen(command) as busy:
        try:
            stranger, child = OtherUse([]), OtherUse([busy.pid])
            time.sleep(0.5)
            as_stranger, as_child = stranger.share(), child.share()
        finally:
            busy.kill()
    assert as_stranger is not None and as_child is not None
    assert as_stranger > as_child
