"""The completion corpus as test cases."""

import random
import tomllib
from dataclasses import dataclass
from pathlib import Path

from lsp_server.prompt import CompletionInput

CORPUS = Path(__file__).parents[2] / "data" / "completion_corpus.toml"
CURSOR = "‸"
SCRAPS = ["\n", "\n\n", "    ", "\t", "}", ")", "]", '"', "'", "`", "{", "(", "# ", "//", "x", "\r"]


@dataclass(frozen=True)
class Case:
    name: str
    rule: str
    inp: CompletionInput
    raw: str
    shown: str
    is_complete: bool
    skip: str | None


def at_cursor(document: str, language: str = "python", multiline: bool = True) -> CompletionInput:
    before, after = document.split(CURSOR)
    return CompletionInput(before, after, language, multiline=multiline)


def load_corpus() -> list[Case]:
    with CORPUS.open("rb") as file:
        return [_case_of(**row) for row in tomllib.load(file)["case"]]


def _case_of(
    *,
    name: str,
    rule: str,
    language: str,
    document: str,
    raw: str = "",
    shown: str = "",
    is_complete: bool = True,
    skip: str | None = None,
    crlf: bool = False,
) -> Case:
    eol = "\r\n" if crlf else "\n"
    inp = at_cursor(document.replace("\n", eol), language)
    return Case(name, rule, inp, raw, shown.replace("\n", eol), is_complete, skip)


def mangled(case: Case, rng: random.Random) -> str:
    """Cut, repeat and litter a raw text of the corpus."""
    text = case.raw
    for _ in range(rng.randrange(1, 6)):
        at, to = sorted((rng.randrange(len(text) + 1), rng.randrange(len(text) + 1)))
        kind = rng.randrange(4)
        if kind == 0:
            text = text[:at] + text[to:]
        elif kind == 1:
            text = text[:to] + text[at:]
        elif kind == 2:
            text = text[:at] + rng.choice(SCRAPS) + text[at:]
        else:
            text = text[:at] + case.inp.suffix[: to - at] + text[at:]
    return text
