import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from engine.catalogue import DEFAULT_MODEL
from engine.config import EngineConfig
from engine.errors import RequestError
from lsp_server import cli_context
from lsp_server.context_report import ContextReport
from lsp_server.context_view import as_json
from tests.lsp_server.context_reports import EXAMPLE


class Explained:
    """Answers with the example and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: tuple[Any, ...] = ()
        self.error: Exception | None = None

    async def __call__(
        self,
        path: Path,
        line: int,
        column: int,
        root: Path | None,
        settings_overrides: dict[str, Any],
        engine_config: EngineConfig,
        /,
    ) -> ContextReport:
        self.asked = (path, line, column, root, settings_overrides, engine_config)
        if self.error is not None:
            raise self.error
        return EXAMPLE


@pytest.fixture
def explain(monkeypatch: pytest.MonkeyPatch) -> Explained:
    explained = Explained()
    monkeypatch.setattr(cli_context, "explain_place", explained)
    return explained


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    cli_context.add_parser(parser.add_subparsers())
    parsed = parser.parse_args(["context", *arguments])
    return parsed.run(parsed)


def test_the_kept_code_is_printed(explain: Explained, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("a/b.py:3:7") == 0
    assert "def parse_config(path):" in capsys.readouterr().out
    path, line, column, root, overrides, config = explain.asked
    assert (path, line, column, root) == (Path("a/b.py"), 3, 7, None)
    assert overrides == {"pflashMode": "auto"}
    assert config == EngineConfig(model=DEFAULT_MODEL)


def test_options_become_settings_and_the_engine_s_configuration(explain: Explained) -> None:
    options = ("--pflash", "always", "--budget", "900", "--keep", "0.3", "--root", "r")
    assert run("b.py:1:1", *options, "--model", "m.gguf", "--threads", "2") == 0
    *_, root, overrides, config = explain.asked
    assert root == Path("r")
    assert overrides == {
        "pflashMode": "always",
        "pflashBudgetTokens": 900,
        "pflashKeepRatio": 0.3,
    }
    assert (config.model, config.n_threads) == ("m.gguf", 2)


@pytest.mark.usefixtures("explain")
def test_programs_get_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("b.py:1:1", "--json") == 0
    out = capsys.readouterr().out
    assert json.loads(out) == json.loads(json.dumps(as_json(EXAMPLE)))
    assert out.isascii()


@pytest.mark.usefixtures("explain")
def test_a_page_is_written_and_its_name_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "page.html"
    assert run("b.py:1:1", "--html", str(out)) == 0
    assert capsys.readouterr().out == f"{out}\n"
    assert "<title>Context at b.py:1:1</title>" in out.read_text("utf-8")


@pytest.mark.usefixtures("explain")
def test_a_page_that_cannot_be_written_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("b.py:1:1", "--html", str(tmp_path / "no" / "page.html")) == 1
    assert "flash-lsp context:" in capsys.readouterr().err


def test_a_file_that_cannot_be_read_is_said(
    explain: Explained, capsys: pytest.CaptureFixture[str]
) -> None:
    explain.error = FileNotFoundError("no b.py")
    assert run("b.py:1:1") == 1
    assert capsys.readouterr().err == "flash-lsp context: no b.py\n"


def test_a_place_must_be_one(explain: Explained) -> None:
    with pytest.raises(RequestError, match="FILE:LINE:COL"):
        run("b.py:0:1")
    assert explain.asked == ()


@pytest.mark.parametrize(
    "wrong",
    [
        ("--json", "--html", "x"),
        ("--keep", "1.5"),
        ("--budget", "0"),
        ("--pflash", "off"),
    ],
)
def test_wrong_options_are_refused(explain: Explained, wrong: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit):
        run("b.py:1:1", *wrong)
    assert explain.asked == ()
