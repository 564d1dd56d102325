"""The command says what is missing before it does anything."""

import importlib.util
from pathlib import Path

import pytest

from lsp_server.cli import run


@pytest.mark.parametrize("action", ["run", "collect"])
def test_without_pytorch_it_says_what_to_install(
    action: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    assert run(["train-drafter", action, str(tmp_path), "--out", str(tmp_path / "out")]) == 1

    assert "pip install 'flash-lsp[train]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
