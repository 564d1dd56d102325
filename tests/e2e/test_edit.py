"""Edits by the real default model."""

from collections.abc import AsyncIterator

import pytest

from benchmarks.edits import Instruction, load_instructions
from engine.client import InProcessEngine
from engine.config import EngineConfig
from lsp_server.edit import EditOptions, rewrite
from tests.models import require_model

pytestmark = [pytest.mark.e2e, pytest.mark.model]

# What any model of code does, whatever its size.
EASY = ("python type annotations", "python rename in a method", "go add a field")


@pytest.fixture
async def engine() -> AsyncIterator[InProcessEngine]:
    engine = InProcessEngine(EngineConfig(model=str(require_model("qwen2.5-coder-0.5b"))))
    await engine.start()
    yield engine
    await engine.close()


async def test_easy_instructions_are_done(engine: InProcessEngine) -> None:
    cases: dict[str, Instruction] = {case.name: case for case in load_instructions()}
    for name in EASY:
        edit = await rewrite(engine, cases[name].inp, EditOptions())
        assert cases[name].is_done(edit.replacement), edit.replacement


async def test_unchanged_text_is_drafted_from_the_old_one(engine: InProcessEngine) -> None:
    [case] = [c for c in load_instructions() if c.name == "python rename in a method"]
    edit = await rewrite(engine, case.inp, EditOptions())
    assert edit.result.n_steps < len(edit.result.tokens) / 2
