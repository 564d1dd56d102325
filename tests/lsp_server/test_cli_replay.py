"""Recorded and replayed with a real model: to the same bytes, whatever the number of threads."""

import json
from pathlib import Path

import pytest

from lsp_server.cli import run
from tests.models import require_model

pytestmark = pytest.mark.model

CODE = 'NUMBERS = {\n    "one": 1,\n    "two": 2,\n    "three": 3,\n    "four": \n}\n'


@pytest.fixture
def model() -> str:
    return str(require_model("smollm2-135m"))


@pytest.fixture
def place(tmp_path: Path) -> str:
    path = tmp_path / "numbers.py"
    path.write_text(CODE)
    return f"{path}:5:13"


@pytest.mark.parametrize("temperature", ["0", "0.8"])
def test_a_completion_is_replayed_to_the_same_bytes(
    model: str,
    place: str,
    tmp_path: Path,
    temperature: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    capsule = tmp_path / "c.json"
    options = ["--model", model, "--capsule", str(capsule), "--temperature", temperature]
    assert run(["complete", place, *options, "--with-text", "--seed", "7"]) == 0
    assert json.loads(capsule.read_text())["n_tokens"] > 0
    assert run(["replay", str(capsule), "--model", model, "--threads", "1"]) == 0
    assert "the same" in capsys.readouterr().out


def test_hashes_are_enough_where_the_file_still_is(
    model: str, place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsule = tmp_path / "c.json"
    assert run(["complete", place, "--model", model, "--capsule", str(capsule)]) == 0
    assert "NUMBERS" not in capsule.read_text()
    assert run(["replay", str(capsule), "--model", model]) == 1
    assert "--at" in capsys.readouterr().err
    assert run(["replay", str(capsule), "--model", model, "--at", place]) == 0
    Path(place.split(":")[0]).write_text(CODE.replace("three", "drei").replace("3", "2"))
    capsys.readouterr()
    run(["replay", str(capsule), "--model", model, "--at", place, "--json"])
    report = json.loads(capsys.readouterr().out)
    assert report["differences"][0]["what"] == "prompt"
