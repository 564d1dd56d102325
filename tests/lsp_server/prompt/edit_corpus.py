"""The edit corpus as test cases."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

from engine.request import FinishReason
from lsp_server.prompt.edit_prompt import EditInput

CORPUS = Path(__file__).parents[2] / "data" / "edit_corpus.toml"
MARK = "‸"


@dataclass(frozen=True)
class Case:
    """Either `shown` or `refused` is there."""

    name: str
    inp: EditInput
    raw: str
    finish: FinishReason
    shown: str | None
    refused: str | None


def selected(
    document: str, language: str = "python", instruction: str = "change it", eol: str = "\n"
) -> EditInput:
    before, selection, after = document.replace("\n", eol).split(MARK)
    return EditInput(before, selection, after, instruction, language)


def load_cases() -> list[Case]:
    with CORPUS.open("rb") as file:
        return [_case_of(**row) for row in tomllib.load(file)["case"]]


def _case_of(
    *,
    name: str,
    rule: str,
    language: str,
    document: str,
    raw: str,
    finish: str = "stop",
    shown: str | None = None,
    refused: str | None = None,
) -> Case:
    assert rule and (shown is None) != (refused is None), name
    return Case(name, selected(document, language), raw, FinishReason(finish), shown, refused)
