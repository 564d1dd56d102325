"""What the GPU benchmark asks of a device, asked of the emulated one; nothing is timed."""

from pathlib import Path

import pytest

from benchmarks import gpu
from benchmarks.gpu_tables import markdown
from engine.backends.gpu.model import GpuModel
from engine.backends.gpu.packing import pack
from engine.engine import Engine
from engine.gguf.reader import GgufFile
from engine.ops import Linear


def test_the_launches_of_a_step_read_every_matrix_once(tiny_model: Path, engine: Engine) -> None:
    found = gpu.launches(engine, 1, 8, 1, n_repeated=1)
    matrices = [op.weight for op in engine._model.program.ops if isinstance(op, Linear)]
    with GgufFile(tiny_model) as file:
        expected = sum(
            pack(w.type_id, file.data(w.name), w.n_out, w.n_cols).n_bytes for w in matrices
        )
    assert sum(row["n"] * row["weight_bytes"] for row in found) == expected
    assert all(row["us"] > 0 for row in found)
    assert len({(row["kernel"], *row["grid"], row["weight_bytes"]) for row in found}) == len(found)


def test_steps_of_more_rows_have_as_many_launches(engine: Engine) -> None:
    counts = [
        sum(row["n"] for row in gpu.launches(engine, n, 8, n, n_repeated=1)) for n in (1, 2, 16)
    ]
    assert counts[0] < counts[1] == counts[2]  # a single row is rounded where it is read


def test_copies_are_counted_as_read_and_written(engine: Engine, monkeypatch) -> None:
    monkeypatch.setattr(gpu, "seconds", lambda work: work() or 2.0)
    model = engine._model
    assert isinstance(model, GpuModel)
    found = gpu.copy_bandwidth(model._driver, n_bytes=10**6)
    assert found == pytest.approx(2 * 10**6 * gpu.N_REPEATED / 2.0 / 1e9)


def test_one_run_gives_all_the_readmes_tables(tiny_model: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(gpu, "PREFILLS", (16,))
    monkeypatch.setattr(gpu, "N_DECODE", 2)
    monkeypatch.setattr(gpu, "WIDTHS", (1, 4))
    monkeypatch.setattr(gpu, "VERIFY_PAST", 8)
    monkeypatch.setattr(gpu, "N_REPEATED", 1)
    monkeypatch.setattr(gpu, "N_RUNS", 1)
    monkeypatch.setattr(gpu, "LAUNCH_STEPS", ((1, 8, 1),))
    monkeypatch.setattr(gpu, "LONG_STEP", (16, 10**6, 1))
    monkeypatch.setattr(gpu, "COPIED_BYTES", 2**16)
    monkeypatch.setattr(gpu, "modes", lambda *_: {})
    shown: list[dict[str, object]] = []
    monkeypatch.setattr(gpu, "markdown", lambda report: shown.append(report) or markdown(report))
    arguments = ["--model", str(tiny_model), "--backend", "emulated", "--context-tokens", "256"]
    monkeypatch.setattr("sys.argv", ["gpu", *arguments, "--agreement-tokens", "16"])
    assert gpu.main() == 0
    assert capsys.readouterr().out == markdown(shown[0]) + "\n"
    assert {"speeds", "step_ms", "launches", "copy_gb_per_s", "agreement"} <= shown[0].keys()
