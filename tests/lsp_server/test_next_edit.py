from lsp_server.documents import Document
from lsp_server.next_edit import NextEdit, Problem, predicted_edit
from tests.lsp_server.scripted_engine import ScriptedEngine
from tests.lsp_server.test_completion import ready_engine
from tests.lsp_server.test_repeats import edited

TEXT = "def area(a, b):\n    return a * b\n\n\nx = 1\n\nprint(area(2, 3))\n"
EDITED = TEXT.replace("def area(a, b):", "def area(a, b, c):")
# What lies below the edit, as the model is to answer it.
SAME = "    return a * b\n\n\nx = 1\n\nprint(area(2, 3))"
CHANGED = SAME.replace("(2, 3)", "(2, 3, 4)")


async def predict(
    document: Document, *answers: str, problems: tuple[Problem, ...] = ()
) -> tuple[NextEdit | None, ScriptedEngine]:
    engine = ready_engine(answers[-1])
    engine.texts = list(answers)
    return await predicted_edit(engine, document, "a.py", problems), engine


async def test_what_the_model_says_every_time_is_offered() -> None:
    problem = Problem(6, "missing argument c")
    document = edited(TEXT, EDITED)
    answer = document.lines(3, 7).replace("(2, 3)", "(2, 3, 4)").strip("\n")
    found, engine = await predict(document, answer, problems=(problem,))
    assert found is not None
    assert (found.edit.start, found.edit.end, found.edit.new) == (6, 7, "print(area(2, 3, 4))\n")
    assert found.source == "model"
    said = "".join(part.text for part in engine.requests[0].prompt)
    assert "missing argument c" in said and "+def area(a, b, c):" in said
    seeds = [(r.sampling.temperature > 0, r.sampling.seed) for r in engine.requests]
    assert seeds == [(False, 0), (True, 1), (True, 2)]


async def test_a_model_that_says_now_this_now_that_is_not_believed() -> None:
    document = edited(TEXT, EDITED)
    problems = (Problem(6, "missing argument c"),)
    lines = document.lines(3, 7).strip("\n")
    found, _ = await predict(
        document,
        lines.replace("(2, 3)", "(2, 3, 4)"),
        lines.replace("(2, 3)", "(2, 3, 5)"),
        problems=problems,
    )
    assert found is None


async def test_no_change_and_no_clean_change_are_no_offer() -> None:
    problems = (Problem(6, "missing argument c"),)
    lines = edited(TEXT, EDITED).lines(3, 7).strip("\n")
    for answer in (lines, "print(", "", lines.replace("x = 1", "+x = 2"), "y = 1\n" * 30):
        found, engine = await predict(edited(TEXT, EDITED), answer, problems=problems)
        assert found is None, answer
        assert engine.requests


async def test_without_an_edit_or_a_place_to_look_the_model_is_not_asked() -> None:
    for document in (edited(TEXT), edited("a = 1\nb = 2\n", "a = 1\nb = 3\n")):
        found, engine = await predict(document, "x")
        assert (found, engine.requests) == (None, [])


async def test_a_name_that_was_changed_says_where_to_look() -> None:
    text = "def area(a):\n    return a\n" + "x = 1\n" * 30 + "y = area(1)\n"
    document = edited(text, text.replace("def area", "def size"))
    _, engine = await predict(document, "x")
    assert "y = area(1)" in "".join(part.text for part in engine.requests[0].prompt)
