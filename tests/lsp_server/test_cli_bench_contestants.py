import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from engine.config import EngineConfig
from engine.engine import Engine
from lsp_server.cli_bench_contestants import Field, PeerSetup, add_own, add_servers
from lsp_server.cli_bench_server import PeerMode
from tests.tiny_gguf import write_tiny_gguf


@pytest.fixture
def config(tmp_path: Path) -> EngineConfig:
    path = write_tiny_gguf(tmp_path / "tiny.gguf", "qwen2", "Q8_0")
    return EngineConfig(model=str(path), n_threads=1, speculation="off")


def test_every_mode_the_model_has_something_for_takes_part(config: EngineConfig) -> None:
    entrants = Field([])
    loaded = add_own(entrants, Engine.load(config), config, None)
    assert [entry.mode for entry in entrants.contestants] == ["plain", "lookup", "auto"]
    assert len(loaded) == 2
    assert len(entrants.remarks) == 1
    assert entrants.remarks[0].startswith("dflash was left out: ")


def test_one_mode_can_be_asked_for(config: EngineConfig) -> None:
    entrants = Field([])
    add_own(entrants, Engine.load(config), config, "lookup")
    assert [entry.mode for entry in entrants.contestants] == ["plain", "lookup"]
    assert entrants.remarks == []


def test_a_server_that_cannot_run_becomes_a_remark(config: EngineConfig) -> None:
    setup = PeerSetup(sys.executable, Path(config.model), None, 1, 64)
    entrants = Field([])
    with ExitStack() as open_things:
        modes = [PeerMode("draft-dflash"), PeerMode("none")]
        add_servers(entrants, setup, modes, open_things, lambda _: None)
    no_drafter, no_module = entrants.remarks
    assert no_drafter == (
        "llama.cpp draft-dflash was left out: no drafter is known for this model, expected one "
        "named by --drafter"
    )
    assert "llama.cpp none was left out: " in no_module and "xllamacpp" in no_module
    assert entrants.contestants == [] and entrants.pids == []
