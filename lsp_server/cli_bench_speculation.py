"""`flash-lsp bench decode` and `bench edit`: decoding with speculation, ours and llama.cpp's.

Every way of decoding takes its turn on every text before the next text begins, so that whatever
else the machine does slows all of them; a speed is that of a whole set of texts, and the figures
are medians over the rounds. The first token of a text comes from its prompt and is not counted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Protocol

from engine.cancel import CancelToken
from engine.engine import Engine
from engine.request import GenerateRequest, SpeculationReport
from lsp_server.cli_bench_edits import copied_share
from lsp_server.cli_bench_peer import LlamaCpp
from lsp_server.cli_bench_rows import BASELINE, Speeds, row
from lsp_server.cli_bench_server import LlamaServer
from lsp_server.cli_bench_texts import BenchText

OURS = "flash-lsp"
PLAIN = "plain"


@dataclass
class Task:
    """A text to go on with. `n_tokens` counts those after the first: as many as are asked for,
    and once our plain decoding has been through it, as many as that made."""

    text: BenchText
    ids: list[int]
    n_tokens: int


@dataclass(frozen=True)
class Sample:
    """One text decoded once. `n_tokens` and `n_steps` count what came after the first token."""

    n_tokens: int
    n_steps: int
    ms: float
    text: str | None = None
    tokens: tuple[int, ...] = ()
    report: SpeculationReport | None = None
    unaccounted_ms: float = 0.0


class Contestant(Protocol):
    """A way of decoding, of ours or of llama.cpp's."""

    engine: str
    mode: str

    def decode(self, task: Task) -> Sample: ...


class OwnContestant:
    """Our engine, loaded for one mode of speculation."""

    engine = OURS

    def __init__(self, mode: str, loaded: Engine) -> None:
        self.mode = mode
        self._loaded = loaded

    def decode(self, task: Task) -> Sample:
        request = GenerateRequest(
            prompt=task.text.prompt,
            max_tokens=task.text.max_tokens,
            stop=task.text.stop,
            references=task.text.references,
        )
        result = self._loaded.generate(request, CancelToken())
        return Sample(
            n_tokens=max(len(result.tokens) - 1, 0),
            n_steps=result.n_steps,
            ms=result.timings_ms.decode,
            text=result.text,
            tokens=tuple(result.tokens),
            report=result.speculation,
        )


class SteppedContestant:
    """llama.cpp stepped token by token: plain decoding without a server around it."""

    engine, mode = BASELINE, PLAIN

    def __init__(self, peer: LlamaCpp) -> None:
        self._peer = peer

    def decode(self, task: Task) -> Sample:
        if task.n_tokens == 0:
            return Sample(0, 0, 0.0)
        return Sample(task.n_tokens, task.n_tokens, self._peer.decode_ms(task.ids, task.n_tokens))


class ServerContestant:
    """llama.cpp's server with one of its own ways of speculating."""

    engine = BASELINE

    def __init__(self, mode: str, server: LlamaServer) -> None:
        self.mode = mode
        self._server = server

    def decode(self, task: Task) -> Sample:
        made = self._server.generate(task.ids, task.text.max_tokens, task.text.stop)
        n_tokens = max(made.n_tokens - 1, 0)
        return Sample(
            n_tokens=n_tokens,
            n_steps=max(n_tokens - made.n_accepted, min(n_tokens, 1)),
            ms=made.ms,
            text=made.text,
            unaccounted_ms=made.unaccounted_ms,
        )


@dataclass
class Rounds:
    """What one contestant did with a set of texts: samples by round, then by text."""

    contestant: Contestant
    samples: list[list[Sample]] = field(default_factory=list[list[Sample]])

    def speeds(self) -> list[float]:
        """Tokens per second of the whole set, by round."""
        return [
            sum(s.n_tokens for s in samples) * 1000 / max(sum(s.ms for s in samples), 1e-9)
            for samples in self.samples
        ]


def run_rounds(
    contestants: Sequence[Contestant],
    tasks: Sequence[Task],
    n_rounds: int,
    say: Callable[[str], None],
) -> list[Rounds]:
    """One uncounted round for warming up, then `n_rounds`. Our plain decoding comes first in the
    first one, which says how many tokens there are; later rounds begin with another contestant."""
    rounds = [Rounds(contestant) for contestant in contestants]
    for number in range(-1, n_rounds):
        turn = "warming up" if number < 0 else f"round {number + 1} of {n_rounds}"
        first = max(number, 0) % len(rounds)
        for entry in rounds if number >= 0 else ():
            entry.samples.append([])
        for task in tasks:
            for entry in [*rounds[first:], *rounds[:first]]:
                mode = f"{entry.contestant.engine} {entry.contestant.mode}"
                say(f"{task.text.name}, {mode}: {turn}")
                sample = entry.contestant.decode(task)
                if number >= 0:
                    entry.samples[-1].append(sample)
                elif (entry.contestant.engine, entry.contestant.mode) == (OURS, PLAIN):
                    task.n_tokens = sample.n_tokens
    return rounds


def rows_of(name: str, model: str, tasks: Sequence[Task], rounds: list[Rounds]) -> list[Any]:
    """A row for each contestant, ours first; the first of llama.cpp's plain ones is the baseline.

    `rounds` begins with our plain decoding. A set on which that made no tokens has no rows.
    """
    plain = rounds[0]
    if not sum(plain.speeds()):
        return []
    baselines = [r for r in rounds if r.contestant.engine == BASELINE and _is_plain(r.contestant)]
    baseline = baselines[0].speeds() if baselines else []
    rows: list[dict[str, Any]] = []
    for entry in rounds:
        if not sum(entry.speeds()):
            continue
        speeds = Speeds(entry.speeds(), baseline)
        rows.append(row(name, model, speeds, entry.contestant.mode))
        rows[-1]["engine"] = entry.contestant.engine
        rows[-1]["plain_ratio"] = rows[-1]["value"] / median(plain.speeds())
        rows[-1] |= _details(entry, plain, tasks)
    return rows


def _is_plain(contestant: Contestant) -> bool:
    return contestant.mode in (PLAIN, "none")


def _details(entry: Rounds, plain: Rounds, tasks: Sequence[Task]) -> dict[str, Any]:
    """What speculation did, over all rounds, and how the text came out."""
    samples = [sample for samples in entry.samples for sample in samples]
    last = list(zip(tasks, entry.samples[-1], strict=True))
    copied = [
        copied_share(task.text.expected, sample.text)
        for task, sample in last
        if task.text.expected is not None and sample.text is not None
    ]
    details: dict[str, Any] = {
        "acceptance_length": _per_step(samples),
        "copied_share": sum(copied) / len(copied) if copied else None,
        "texts": [
            {
                "name": task.text.name,
                "value": median(_speed(samples[i]) for samples in entry.samples),
                "acceptance_length": _per_step([samples[i] for samples in entry.samples]),
            }
            for i, task in enumerate(tasks)
        ],
    }
    if entry.contestant.engine != OURS:
        outside_ms = median(sample.unaccounted_ms for sample in samples)
        return details | {"unaccounted_ms": outside_ms}
    reports = [sample.report for sample in samples if sample.report is not None]
    return details | _totals(reports) | {"different_texts": _different(entry, plain)}


def _different(entry: Rounds, plain: Rounds) -> int:
    """Decoded texts, over all rounds, whose tokens are not those of plain decoding."""
    return sum(
        sample.tokens != other.tokens
        for samples, others in zip(entry.samples, plain.samples, strict=True)
        for sample, other in zip(samples, others, strict=True)
    )


def _totals(reports: list[SpeculationReport]) -> dict[str, Any]:
    """Histograms, counts by source and milliseconds, added up."""
    sources: dict[str, dict[str, int]] = {}
    for report in reports:
        for name, counts in report.by_source.items():
            total = sources.setdefault(name, {"proposed": 0, "accepted": 0})
            total["proposed"] += counts.proposed
            total["accepted"] += counts.accepted
    stages = ("draft_ms", "verify_ms", "commit_ms", "host_ms", "plain_ms")
    return {
        "accepted_lengths": _added([report.accepted_lengths for report in reports]),
        "tree_sizes": _added([report.tree_sizes for report in reports]),
        "by_source": sources,
        "split_ms": {name: sum(getattr(report, name) for report in reports) for name in stages},
    }


def _added(histograms: list[list[int]]) -> list[int]:
    total = [0] * max((len(h) for h in histograms), default=0)
    for histogram in histograms:
        for i, n in enumerate(histogram):
            total[i] += n
    return total


def _per_step(samples: list[Sample]) -> float:
    return sum(s.n_tokens for s in samples) / max(sum(s.n_steps for s in samples), 1)


def _speed(sample: Sample) -> float:
    return sample.n_tokens * 1000 / max(sample.ms, 1e-9)
