import re

from benchmarks.edits import load_instructions, run_all
from tests.lsp_server.test_completion import ready_engine

CASES = load_instructions()


def test_the_corpus_asks_for_twelve_edits_in_four_languages() -> None:
    assert len(CASES) == 12
    assert len({case.inp.language_id for case in CASES}) == 4
    for case in CASES:
        for pattern in (*case.wanted, *case.unwanted):
            re.compile(pattern)
        assert not case.is_done(case.inp.selection), f"{case.name} asks for nothing"


async def test_clean_and_done_are_told_apart() -> None:
    case = CASES[0]
    good = case.inp.selection.replace("(values)", "(values: list) -> float", 1)
    for text, refused, is_done in (
        (good, None, True),
        ("x = 1", None, False),
        ("(", "broken-syntax", False),
    ):
        [outcome] = await run_all(ready_engine(text), [case])
        assert (outcome.refused, outcome.is_done) == (refused, is_done)
