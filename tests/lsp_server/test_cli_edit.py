import argparse
import json
import subprocess
from pathlib import Path

import pytest

from engine.config import EngineConfig
from engine.errors import RequestError
from lsp_server import cli_edit
from lsp_server.cli import build_parser
from lsp_server.cli_edit import input_of, parse_lines, unified_diff, write_whole
from tests.lsp_server.scripted_engine import ScriptedEngine

TEXT = "def f():\r\n    a = 1\r\n    b = 2\r\n    return a"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "f.py"
    path.write_bytes(TEXT.encode())
    return path


def run(monkeypatch: pytest.MonkeyPatch, text: str, *arguments: str) -> int:
    def engine(config: EngineConfig) -> ScriptedEngine:
        return ScriptedEngine(config, text)

    monkeypatch.setattr(cli_edit, "InProcessEngine", engine)
    parsed: argparse.Namespace = build_parser().parse_args(["edit", *arguments])
    return parsed.run(parsed)


def test_the_difference_is_printed_and_the_file_left_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], path: Path
) -> None:
    assert run(monkeypatch, "a = 1\nb = 4", f"{path}:2-3", "double b") == 0
    shown = capsys.readouterr().out
    assert "-    b = 2" in shown and "+    b = 4" in shown and shown.startswith("--- a/")
    assert path.read_bytes() == TEXT.encode()


def test_the_file_is_changed_if_asked(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    path.chmod(0o640)
    assert run(monkeypatch, "a = 1\nb = 4", f"{path}:2-3", "double b", "--apply") == 0
    assert path.read_bytes() == TEXT.replace("b = 2", "b = 4").encode()
    assert path.stat().st_mode & 0o777 == 0o640
    assert [p.name for p in path.parent.iterdir()] == ["f.py"]


def test_programs_get_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], path: Path
) -> None:
    assert run(monkeypatch, "return b", f"{path}:4", "return b", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["replacement"] == "    return b"
    assert "\\ No newline at end of file" in report["diff"]


def test_a_refusal_is_said_and_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], path: Path
) -> None:
    assert run(monkeypatch, "a = (", f"{path}:2-3", "break it", "--apply") == 1
    assert "no valid code" in capsys.readouterr().err
    assert run(monkeypatch, "a = (", f"{path}:2-3", "break it", "--apply", "--json") == 1
    assert json.loads(capsys.readouterr().out)["refused"] == "broken-syntax"
    assert path.read_bytes() == TEXT.encode()


def test_the_diff_is_one_that_patch_applies(tmp_path: Path) -> None:
    for old, new in (("a\nb\nc\n", "a\nB\nc\n"), ("a\nb", "a\nB"), ("a\n", "a\nb\n")):
        path = tmp_path / "x.txt"
        path.write_text(old)
        inp = input_of(path, 1, len(old.splitlines()), "x")
        diff = unified_diff(inp, new)
        done = subprocess.run(["patch", str(path)], input=diff, text=True, capture_output=True)
        assert done.returncode == 0, done.stdout
        assert path.read_text() == new


@pytest.mark.parametrize("place", ["f.py", "f.py:0", "f.py:3-2", "f.py:a-b", ":1", "f.py:1-"])
def test_what_names_no_lines_is_refused(place: str) -> None:
    with pytest.raises(RequestError, match="FILE:START-END"):
        parse_lines(place)


def test_lines_beyond_the_file_are_refused(path: Path) -> None:
    assert parse_lines("a:b.py:2-3") == (Path("a:b.py"), 2, 3)
    with pytest.raises(RequestError, match="4 lines"):
        input_of(path, 2, 9, "x")


def test_a_file_is_never_left_half_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(cli_edit.os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_whole(path, "x")
    assert [p.name for p in path.parent.iterdir()] == ["f.py"]
    assert path.read_bytes() == TEXT.encode()
