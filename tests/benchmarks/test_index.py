import json

import pytest

from benchmarks.index import main, modules, percentile


def test_a_small_workspace_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--files", "60", "--queries", "10", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    rows = {row["name"]: row for row in report["rows"]}
    assert rows["definition first"]["value"] == 100
    assert rows["chunks hashed an edit"]["value"] <= 3
    assert rows["chunks"]["value"] >= 60
    assert all(row["mode"] == "60 files" and row["value"] > 0 for row in report["rows"])


def test_the_workspace_is_the_same_every_time() -> None:
    assert list(modules(3)) == list(modules(3))


def test_percentiles_are_values_of_the_sample() -> None:
    values = [float(n) for n in range(100)]
    assert (percentile(values, 0.5), percentile(values, 0.95)) == (50.0, 95.0)
    assert percentile([1.0], 0.95) == 1.0
