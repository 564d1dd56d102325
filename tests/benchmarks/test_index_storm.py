import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.index_storm import main, problems
from tests.tiny_gguf import write_tiny_gguf


@pytest.mark.e2e
def test_a_small_storm_changes_no_completion(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_tiny_gguf(tmp_path / "tiny.gguf", "qwen2", "Q8_0")
    assert main(["--model", str(model), "--files", "60", "--seconds", "2", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["problems"] == []
    rows = {(row["name"], row["mode"]): row for row in report["rows"]}
    assert rows["same completions as off", "index"]["runs"] > 1
    assert 0 < rows["chunks hashed an edit", "index"]["value"] < 10
    assert rows["completion in the storm, p50", "index"]["baseline_value"] > 0


def test_too_much_memory_and_other_completions_are_problems() -> None:
    def row(name: str, value: float) -> dict[str, Any]:
        return {"name": name, "mode": "index", "value": value}

    assert problems([row("memory of the index", 60), row("same completions as off", 100)]) == []
    found = problems([row("memory of the index", 200), row("same completions as off", 99)])
    assert found == [
        "index: 200 MiB, more than 128",
        "index: 1.0 % of the completions are others",
    ]
