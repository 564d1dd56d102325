"""docs/doctor.md says what the command says."""

from pathlib import Path

import pytest

from engine.backends.gpu.system import System
from tests.gpu.standin.doctor_page import CASES, PAGE, Case, report, section


@pytest.fixture(autouse=True)
def no_gpu_of_our_own() -> None:
    if any(System().has_hardware(vendor) for vendor in ("0x1002", "0x10de")):
        pytest.skip("a real GPU would be told of as well")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_the_page_is_what_the_command_says(case: Case) -> None:
    assert section(case) in PAGE.read_text("utf-8"), (
        "docs/doctor.md is stale: python -m tests.gpu.standin.doctor_page --write"
    )


def test_the_cases_are_the_ones_they_are_called(tmp_path: Path) -> None:
    found = [report(case, tmp_path / str(i)) for i, case in enumerate(CASES)]
    usable = [[gpu["backend"] for gpu in one["gpus"] if gpu["is_usable"]] for one in found]
    assert usable == [[], ["hip"], ["cuda"], [], []]
    obstacles = [[problem["what"] for problem in one["problems"]] for one in found]
    assert obstacles[3][0].startswith("NVIDIA's driver is of CUDA 12.4, expected 13.0")
    assert "gfx906" in obstacles[4][0]
