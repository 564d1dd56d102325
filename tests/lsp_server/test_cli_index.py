import json
from pathlib import Path

import pytest

from lsp_server.cli import run
from tests.lsp_server.workspace.indexing import write_files


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    files = {"a.py": "def alpha(): pass\n", ".env": "A=1\n", "b.csv": "1\n", "c.log.py": "x = 1\n"}
    write_files(tmp_path / "app", files)
    return tmp_path / "app"


def test_the_command_says_what_is_left_out_and_why(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["index", str(folder), "--json", "--exclude", "*.log.py"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["files"], report["chunks"], report["languages"]) == (1, 1, {"python": 1})
    assert report["indexed"] == [{"path": "a.py", "language": "python", "n_chunks": 1}]
    assert {file["path"]: file["reason"] for file in report["skipped"]} == {
        ".env": "secret",
        "b.csv": "data",
        "c.log.py": "excluded",
    }
    assert run(["index", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert ".env" in shown and "2 files in 2 chunks" in shown and "1 chunks were new" in shown


def test_what_is_no_folder_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["index", "/nowhere/at/all"]) == 1
    assert "no folder" in capsys.readouterr().err
