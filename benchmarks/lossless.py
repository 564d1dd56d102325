"""Whether speculation ever changes a token: greedy text of every mode against plain decoding.

    python -m benchmarks.lossless --model qwen2.5-coder-0.5b --output lossless.jsonl
    python -m benchmarks.lossless --limit 20 --output /tmp/few.jsonl

Continues real code of the packages this machine has, in turn by language, half as plain text and
half as a gap with text before and after, 64 to 256 tokens each. Every mode decodes every prompt; a
prompt's result is one line of `--output`. A run that was interrupted goes on where it was, and
`--limit` ends one early. The exit code is 1 if anything differs.
"""

import argparse
import random
import sys
import sysconfig
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import monotonic

import msgspec

from benchmarks.fim_probe import LANGUAGES, code_files, default_roots
from engine.cancel import CancelToken
from engine.config import SpeculationMode
from engine.engine import Engine
from engine.errors import RequestError
from engine.request import GenerateRequest, GenerateResult, PromptPart
from lsp_server.cli_options import add_model_options, engine_config, positive
from lsp_server.completion import prompt_form
from lsp_server.prompt import CompletionInput, build_prompt

LEAST_TOKENS, MOST_TOKENS = 64, 256
LEAST_CHARS, MOST_CHARS = 200, 3000  # of the text before the place
SUFFIX_CHARS = 500
MODES: tuple[SpeculationMode, ...] = ("lookup", "dflash", "auto")


class Case(msgspec.Struct, frozen=True):
    """A place in a file, and how many tokens to generate there."""

    path: str
    offset: int
    n_chars: int
    is_gap: bool
    n_tokens: int


class Outcome(msgspec.Struct):
    """One mode's tokens against the plain ones: `first_difference` is where they part."""

    first_difference: int | None
    acceptance_length: float
    n_drafts: int
    speedup: float


class Line(msgspec.Struct):
    """What is written for each case. `settings` say what must not change between runs."""

    idx: int
    case: Case
    settings: str
    n_tokens: int
    outcomes: dict[str, Outcome]


def sample_cases(files: Sequence[Path], n_cases: int, seed: int) -> list[Case]:
    """Places in files, the languages in turn; the same files and seed give the same places."""
    rng = random.Random(seed)
    by_language = [[f for f in files if f.suffix == suffix] for suffix in LANGUAGES]
    pools = [pool for pool in by_language if pool]
    cases: list[Case] = []
    while pools and len(cases) < n_cases:
        path = rng.choice(pools[len(cases) % len(pools)])
        n_chars = rng.randint(LEAST_CHARS, MOST_CHARS)
        offset = rng.randint(LEAST_CHARS, max(path.stat().st_size - LEAST_CHARS, LEAST_CHARS))
        is_gap = len(cases) // len(pools) % 2 == 1
        n_tokens = rng.randint(LEAST_TOKENS, MOST_TOKENS)
        cases.append(Case(str(path), offset, n_chars, is_gap, n_tokens))
    return cases


def prompt_of(case: Case, form: str) -> tuple[PromptPart, ...]:
    text = Path(case.path).read_text("utf-8", errors="replace").replace("\r\n", "\n")
    prefix = text[max(case.offset - case.n_chars, 0) : case.offset]
    if not case.is_gap:
        return (PromptPart(prefix, heal=True),)
    inp = CompletionInput(
        prefix=prefix,
        suffix=text[case.offset :],
        language_id=LANGUAGES[Path(case.path).suffix],
        path=Path(case.path).name,
    )
    return build_prompt(inp, form, MOST_CHARS, SUFFIX_CHARS).parts


def compare(engine: Engine, case: Case, form: str, modes: Sequence[SpeculationMode]) -> Line:
    """Decodes one case in every mode; the prompt itself is computed once."""
    prompt = prompt_of(case, form)

    def generate(mode: SpeculationMode) -> GenerateResult:
        request = GenerateRequest(prompt=prompt, max_tokens=case.n_tokens, speculation=mode)
        return engine.generate(request, CancelToken())

    plain = generate("off")
    outcomes: dict[str, Outcome] = {}
    for mode in modes:
        result = generate(mode)
        report = result.speculation
        outcomes[mode] = Outcome(
            first_difference=first_difference(plain.tokens, result.tokens),
            acceptance_length=report.acceptance_length,
            n_drafts=sum(n * count for n, count in enumerate(report.tree_sizes)),
            speedup=plain.timings_ms.decode / max(result.timings_ms.decode, 1e-9),
        )
    return Line(0, case, "", len(plain.tokens), outcomes)


def first_difference(left: Sequence[int], right: Sequence[int]) -> int | None:
    """The index of the first token that differs or is missing; None for equal ones."""
    for i, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return i
    return None if len(left) == len(right) else min(len(left), len(right))


def read_done(path: Path, settings: str) -> dict[int, Line]:
    """The lines of an earlier run, without one that was cut off. Raises RequestError if the run
    had other settings."""
    done: dict[int, Line] = {}
    if not path.exists():
        return done
    text = path.read_text("utf-8")
    whole = text[: text.rfind("\n") + 1]
    for row in whole.splitlines():
        line = msgspec.json.decode(row, type=Line)
        if line.settings != settings:
            raise RequestError(
                f"{path} is of a run with {line.settings}, expected {settings}; name another file"
            )
        done[line.idx] = line
    if whole != text:
        path.write_text(whole, "utf-8")
    return done


def run_cases(
    engine: Engine, cases: Sequence[Case], arguments: argparse.Namespace, settings: str
) -> Iterator[Line]:
    """The lines of all cases, those done before first; writes each new one at once."""
    done = read_done(arguments.output, settings)
    yield from done.values()
    form = prompt_form(engine.info)
    with arguments.output.open("a", encoding="utf-8") as output:
        for idx, case in enumerate(cases):
            if idx in done:
                continue
            line = compare(engine, case, form, arguments.modes)
            line.idx, line.settings = idx, settings
            output.write(msgspec.json.encode(line).decode() + "\n")
            output.flush()
            yield line


class Summary:
    """Counts over all lines so far."""

    def __init__(self) -> None:
        self.n_cases = self.n_tokens = 0
        self.n_different: Counter[str] = Counter()
        self.n_drafts: Counter[str] = Counter()
        self.length_sums: Counter[str] = Counter()
        self.languages: Counter[str] = Counter()

    def add(self, line: Line) -> None:
        self.n_cases += 1
        self.n_tokens += line.n_tokens
        self.languages[LANGUAGES[Path(line.case.path).suffix]] += 1
        for mode, outcome in line.outcomes.items():
            self.n_different[mode] += outcome.first_difference is not None
            self.n_drafts[mode] += outcome.n_drafts
            self.length_sums[mode] += outcome.acceptance_length
            if outcome.first_difference is not None:
                print(f"DIFFERENT: {mode}, token {outcome.first_difference} of {line.case}")

    def show(self, modes: Sequence[str]) -> None:
        languages = ", ".join(f"{n} {name}" for name, n in self.languages.most_common())
        print(f"{self.n_cases} prompts ({languages}), {self.n_tokens} tokens per mode")
        for mode in modes:
            length = self.length_sums[mode] / max(self.n_cases, 1)
            print(
                f"{mode:>7}: {self.n_different[mode]} differences from plain decoding; "
                f"{self.n_drafts[mode]} drafts verified, {length:.2f} tokens per step"
            )


def roots() -> list[Path]:
    """Where packages lie, beside the standard library and what comes with the system."""
    packages = Path(sysconfig.get_paths()["purelib"])
    return [*default_roots(), packages]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--prompts", type=positive, default=1000)
    parser.add_argument("--limit", type=positive, help="new prompts of this run at most")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=["lookup", "auto"])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--root", type=Path, action="append", help="a folder of code; repeatable")
    parser.add_argument("--output", type=Path, default=Path("lossless.jsonl"))
    add_model_options(parser)
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    cases = sample_cases(code_files(arguments.root or roots()), arguments.prompts, arguments.seed)
    if not cases:
        print("no code to continue was found; name a folder with --root", file=sys.stderr)
        return 1
    settings = (
        f"model {Path(arguments.model).name}, seed {arguments.seed}, "
        f"modes {' '.join(arguments.modes)}, tree budget {arguments.tree_budget}"
    )
    engine = Engine.load(engine_config(arguments))
    summary, started = Summary(), monotonic()
    try:
        n_before = len(read_done(arguments.output, settings))
        for line in run_cases(engine, cases, arguments, settings):
            summary.add(line)
            n_new = summary.n_cases - n_before
            if n_new > 0:
                left_s = (monotonic() - started) / n_new * (len(cases) - summary.n_cases)
                print(
                    f"\r{summary.n_cases}/{len(cases)} prompts, "
                    f"{summary.n_different.total()} differences, {left_s / 60:.0f} min left ",
                    end="",
                    file=sys.stderr,
                    flush=True,
                )
            if arguments.limit is not None and n_new >= arguments.limit:
                break
    finally:
        engine.close()
    print(file=sys.stderr)
    summary.show(arguments.modes)
    return 1 if summary.n_different.total() else 0


if __name__ == "__main__":
    raise SystemExit(main())
