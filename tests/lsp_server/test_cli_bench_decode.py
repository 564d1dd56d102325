import argparse
from contextlib import ExitStack
from pathlib import Path

import pytest

from engine.config import EngineConfig
from engine.engine import Engine
from engine.errors import RequestError
from lsp_server import cli_bench_decode
from lsp_server.cli_bench_decode import DecodeBench, add_decode_options
from lsp_server.cli_bench_server import PeerMode
from tests.tiny_gguf import write_tiny_gguf


def parse(what: str, *options: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_decode_options(parser)
    args = parser.parse_args([*options])
    args.what, args.runs, args.speculation, args.drafter = what, 1, None, None
    return args


@pytest.fixture
def config(tmp_path: Path) -> EngineConfig:
    path = write_tiny_gguf(tmp_path / "tiny.gguf", "qwen2", "Q8_0")
    return EngineConfig(model=str(path), n_threads=1, speculation="off")


@pytest.fixture
def engine(config: EngineConfig) -> Engine:
    return Engine.load(config)


def names_of(bench: DecodeBench, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The sets that have rows, in order, and their modes."""
    monkeypatch.setattr(cli_bench_decode, "find_python", lambda *_: None)
    with ExitStack() as open_things:
        rows = bench.rows(None, [], open_things, lambda _: None)
    return list(dict.fromkeys(entry["name"] for entry in rows))


def test_defaults_are_every_set_and_the_peers_best_modes() -> None:
    args = parse("decode")
    assert args.sets == ("code", "files", "prose", "unpredictable")
    assert PeerMode("none") in args.peer_modes and PeerMode("draft-dflash", 7) in args.peer_modes


@pytest.mark.parametrize("option", [["--sets", "poems"], ["--peer-modes", "none="]])
def test_a_bad_list_is_wrong_usage(option: list[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        parse("decode", *option)
    assert exit_info.value.code == 2


def test_files_and_prompts_of_ones_own_are_decoded(
    tmp_path: Path, config: EngineConfig, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts, code = tmp_path / "p.jsonl", tmp_path / "code.py"
    prompts.write_text('{"prompt": "def add("}\n', encoding="utf-8")
    code.write_text("a = 1\n" * 12, encoding="utf-8")
    options = ["--prompts", str(prompts), "--files", str(code), "--tokens", "4"]
    bench = DecodeBench(parse("decode", *options, "--sets", "code,files"), config, engine)
    assert names_of(bench, monkeypatch) == ["decode code", "decode files"]
    assert 4 < bench.most_tokens < 200


def test_prompts_that_cannot_be_read_are_an_error_before_anything_runs(
    config: EngineConfig, engine: Engine
) -> None:
    with pytest.raises(RequestError, match="could not read"):
        DecodeBench(parse("decode", "--prompts", "/nowhere/p.jsonl"), config, engine)


def test_what_does_not_fit_the_model_is_left_out_and_said(
    config: EngineConfig, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    args = parse("decode", "--tokens", "500", "--sets", "prose")
    bench = DecodeBench(args, config, engine)
    assert names_of(bench, monkeypatch) == []
    assert bench.remarks == [
        "decode prose: 4 of 4 texts were left out, they take more than the 512 tokens the model "
        "sees."
    ]


def test_edits_need_a_model_that_chats(config: EngineConfig, engine: Engine) -> None:
    bench = DecodeBench(parse("edit"), config, engine)
    assert bench.remarks == ["edit was left out: the model has no ChatML template."]
    assert DecodeBench(parse("prefill"), config, engine).most_tokens == 0
