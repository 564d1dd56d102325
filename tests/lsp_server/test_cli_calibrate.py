"""The command over the emulated GPU; what it prints, never how long anything took."""

import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest

from engine.calibration import Calibration
from lsp_server.cli_calibrate import describe, show, summary
from tests.e2e.command import flash_lsp, source_path
from tests.gpu.standin import libraries
from tests.tiny_gguf import write_tiny_gguf

FOUND = Calibration(
    device="hip (Radeon 8060S, gfx1151)",
    model="a-model",
    step_ms={1: 4.0, 8: 4.4, 32: 8.0},
    draft_ms={16: 1.25},
    prefill_ms={512: 30.0},
    spent_s=1.25,
)


def test_every_measurement_is_a_row(capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    show(FOUND)
    text = capsys.readouterr().out
    assert "a-model on hip (Radeon" in text
    rows = [[part.strip() for part in line.split("│")[1:4]] for line in text.splitlines()]
    assert ["step", "1", "4.00"] in rows
    assert ["block of drafts", "16", "1.25"] in rows
    assert ["prompt", "512", "30.00"] in rows
    assert summary(FOUND) in text


def test_what_follows_is_said_to_programs_and_people() -> None:
    assert describe(FOUND) == {**msgspec.structs.asdict(FOUND), "cheap_rows": 12}
    assert describe(None) is None
    assert summary(FOUND) == (
        "a step takes 4.00 ms, and at most a quarter more up to 12 rows (measured in 1.2 s)"
    )


@pytest.mark.timeout(200)
def test_the_command_measures_and_doctor_tells(tmp_path: Path) -> None:
    if shutil.which("c++") is None:
        pytest.skip("no C++ compiler")
    model = write_tiny_gguf(tmp_path / "tiny.gguf", "qwen2", "Q8_0", n_ctx=256)
    environment = libraries.environment(
        XDG_CACHE_HOME=str(tmp_path), COLUMNS="200", **source_path()
    )

    def said(*arguments: str) -> str:
        command = flash_lsp(*arguments)
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    model_options = ("--model", str(model), "--context", "256")
    json = said("calibrate", *model_options, "--backend", "emulated", "--json")
    found = msgspec.json.decode(json)["calibration"]
    assert found["device"].startswith("emulated")
    assert "1" in found["step_ms"]
    assert found["spent_s"] > 0
    doctor = ("doctor", "--models-dir", str(tmp_path))
    assert msgspec.json.decode(said(*doctor, "--json"))["calibration"]["gpus"] == [found]
    shown = " ".join(said(*doctor).split())
    assert f"up to {found['cheap_rows']} rows at most a quarter more" in shown
    on_cpu = said("calibrate", *model_options, "--backend", "cpu")
    assert on_cpu.startswith("cpu (")
    assert on_cpu.endswith("steps are measured when a model is first loaded\n")
