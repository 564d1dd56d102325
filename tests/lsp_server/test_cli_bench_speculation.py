from collections.abc import Sequence
from pathlib import Path

import pytest

from engine.config import EngineConfig, SpeculationMode
from engine.engine import Engine
from engine.request import PromptPart, SourceCounts, SpeculationReport
from lsp_server.cli_bench_rows import BASELINE
from lsp_server.cli_bench_speculation import (
    OURS,
    PLAIN,
    Contestant,
    OwnContestant,
    Rounds,
    Sample,
    Task,
    rows_of,
    run_rounds,
)
from lsp_server.cli_bench_texts import BenchText
from tests.lsp_server.test_cli_bench_rows import ROW_KEYS
from tests.tiny_gguf import write_tiny_gguf


def task(name: str, n_tokens: int = 20, expected: str | None = None) -> Task:
    text = BenchText(name, (PromptPart(name),), n_tokens + 1, expected=expected)
    return Task(text, [1, 2, 3], n_tokens)


class Scripted:
    """Hands out prepared samples and writes down when it was asked."""

    def __init__(
        self, engine: str, mode: str, samples: Sequence[Sample], log: list[tuple[str, str, int]]
    ) -> None:
        self.engine, self.mode = engine, mode
        self._samples, self._log, self._n = samples, log, 0

    def decode(self, task: Task) -> Sample:
        self._log.append((self.mode, task.text.name, task.n_tokens))
        self._n += 1
        return self._samples[(self._n - 1) % len(self._samples)]


def test_contestants_take_turns_on_each_text_and_the_first_round_does_not_count() -> None:
    log: list[tuple[str, str, int]] = []
    contestants: list[Contestant] = [
        Scripted(OURS, PLAIN, [Sample(5, 5, 10.0)], log),
        Scripted(BASELINE, PLAIN, [Sample(5, 5, 20.0)], log),
    ]
    rounds = run_rounds(contestants, [task("a"), task("b")], 2, lambda _: None)
    assert [len(entry.samples) for entry in rounds] == [2, 2]
    assert [len(samples) for entry in rounds for samples in entry.samples] == [2] * 4
    assert log[:3] == [(PLAIN, "a", 20), (PLAIN, "a", 5), (PLAIN, "b", 20)]  # ours made only 5
    assert len(log) == 3 * 2 * 2
    assert rounds[0].speeds() == [500.0, 500.0]


def reported(tokens: tuple[int, ...], n_steps: int, ms: float) -> Sample:
    """What a speculating run of ours hands back."""
    report = SpeculationReport(
        mode="lookup",
        steps=n_steps,
        by_source={"lookup": SourceCounts(proposed=8, accepted=6)},
        accepted_lengths=[1, 0, 2],
        tree_sizes=[0, 3],
        draft_ms=1.0,
        verify_ms=2.0,
    )
    return Sample(len(tokens) - 1, n_steps, ms, "a\nb", tokens, report)


def rounds_of(engine: str, mode: str, *samples: list[Sample]) -> Rounds:
    return Rounds(Scripted(engine, mode, [], []), list(samples))


def test_rows_say_how_fast_and_how_well_each_contestant_was() -> None:
    tasks = [task("x", 4, expected="a\nc"), task("y", 2)]
    plain = [reported((1, 2, 3, 4, 5), 4, 40.0), reported((1, 2, 3), 2, 20.0)]
    fast = [reported((1, 2, 3, 4, 5), 2, 20.0), reported((1, 2, 3), 1, 10.0)]
    wrong = [fast[0], reported((1, 2, 9), 1, 10.0)]
    peer = [Sample(4, 4, 80.0), Sample(2, 2, 40.0)]
    server = [Sample(4, 2, 40.0, "a\nc", unaccounted_ms=1.5), Sample(2, 1, 20.0, "", (), None, 0.5)]
    rows = rows_of(
        "decode code",
        "m",
        tasks,
        [
            rounds_of(OURS, PLAIN, plain, plain),
            rounds_of(OURS, "lookup", fast, wrong),
            rounds_of(BASELINE, PLAIN, peer, peer),
            rounds_of(BASELINE, "ngram-simple", server, server),
        ],
    )
    ours, lookup, stepped, served = rows
    for entry in rows:
        assert set(entry) >= {*ROW_KEYS, "engine", "plain_ratio", "acceptance_length", "texts"}
        assert entry["baseline_value"] == 50.0
    assert (ours["value"], ours["ratio"], ours["plain_ratio"]) == (100.0, 2.0, 1.0)
    assert (lookup["value"], lookup["ratio"], lookup["plain_ratio"]) == (200.0, 4.0, 2.0)
    assert lookup["acceptance_length"] == 2.0
    assert lookup["different_texts"] == 1 and ours["different_texts"] == 0
    assert lookup["accepted_lengths"] == [4, 0, 8] and lookup["tree_sizes"] == [0, 12]
    assert lookup["by_source"] == {"lookup": {"proposed": 32, "accepted": 24}}
    assert lookup["split_ms"]["draft_ms"] == 4.0 and lookup["split_ms"]["verify_ms"] == 8.0
    assert lookup["copied_share"] == 0.5 and stepped["copied_share"] is None
    assert [text["name"] for text in lookup["texts"]] == ["x", "y"]
    assert (stepped["engine"], stepped["mode"], stepped["ratio"]) == (BASELINE, PLAIN, 1.0)
    assert (served["ratio"], served["copied_share"]) == (2.0, 1.0)
    assert served["unaccounted_ms"] == 1.0


def test_without_tokens_there_are_no_rows() -> None:
    assert rows_of("decode", "m", [task("x")], [rounds_of(OURS, PLAIN, [Sample(0, 0, 1.0)])]) == []


def test_the_server_is_the_baseline_where_nothing_else_is() -> None:
    samples = [Sample(4, 4, 40.0)]
    rows = rows_of(
        "decode",
        "m",
        [task("x")],
        [rounds_of(OURS, PLAIN, samples), rounds_of(BASELINE, "none", samples)],
    )
    assert [entry["ratio"] for entry in rows] == [1.0, 1.0]


@pytest.mark.parametrize("mode", ["off", "lookup", "auto"])
def test_our_engine_makes_the_tokens_that_it_counts(tmp_path: Path, mode: SpeculationMode) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf", "qwen2", "Q8_0")
    engine = Engine.load(EngineConfig(model=str(path), n_threads=1, speculation=mode))
    sample = OwnContestant(mode, engine).decode(task("def add(", 15))
    assert sample.n_tokens == len(sample.tokens) - 1 > 0
    assert 0 < sample.n_steps <= sample.n_tokens
    assert sample.ms > 0 and sample.report is not None
