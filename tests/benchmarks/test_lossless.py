"""The losslessness run on a tiny model: it resumes, and it can tell a difference."""

import argparse
from pathlib import Path

import pytest

from benchmarks.lossless import (
    Summary,
    compare,
    first_difference,
    read_done,
    run_cases,
    sample_cases,
)
from engine.config import EngineConfig
from engine.engine import Engine
from engine.errors import RequestError
from lsp_server.completion import prompt_form
from tests.tiny_gguf import write_tiny_gguf


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    path = write_tiny_gguf(tmp_path_factory.mktemp("model") / "tiny.gguf", "qwen2", "Q8_0")
    return Engine.load(EngineConfig(model=str(path), n_threads=1))


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    names = ("a.py", "b.h", "c.js")
    for name in names:
        (tmp_path / name).write_text("value = other + 1\n" * 10)
    return [tmp_path / name for name in names]


def arguments(tmp_path: Path) -> argparse.Namespace:
    return argparse.Namespace(output=tmp_path / "out.jsonl", modes=["lookup"])


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [([1, 2], [1, 2], None), ([1, 2], [1, 3], 1), ([1, 2], [1], 1), ([], [4], 0)],
)
def test_the_first_difference_is_found(
    left: list[int], right: list[int], expected: int | None
) -> None:
    assert first_difference(left, right) == expected


def test_the_same_seed_gives_the_same_places(files: list[Path]) -> None:
    assert sample_cases(files, 9, 1) == sample_cases(files, 9, 1) != sample_cases(files, 9, 2)
    assert {case.is_gap for case in sample_cases(files, 9, 1)} == {False, True}


def test_an_interrupted_run_goes_on_where_it_was(
    engine: Engine, files: list[Path], tmp_path: Path
) -> None:
    cases, given = sample_cases(files, 4, 1), arguments(tmp_path)
    first = run_cases(engine, cases, given, "some")
    lines = [next(first), next(first)]
    first.close()
    with given.output.open("a") as output:
        output.write('{"idx": 2, "case"')  # cut off while it was written
    assert list(read_done(given.output, "some")) == [0, 1]
    assert list(run_cases(engine, cases, given, "some"))[:2] == lines
    assert sorted(read_done(given.output, "some")) == [0, 1, 2, 3]
    with pytest.raises(RequestError, match="some"):
        read_done(given.output, "other")


def test_differences_are_counted(
    engine: Engine, files: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    line = compare(engine, sample_cases(files, 1, 1)[0], prompt_form(engine.info), ["lookup"])
    assert line.outcomes["lookup"].first_difference is None
    summary = Summary()
    summary.add(line)
    line.outcomes["lookup"].first_difference = 3
    summary.add(line)
    summary.show(["lookup"])
    assert "1 differences" in capsys.readouterr().out
