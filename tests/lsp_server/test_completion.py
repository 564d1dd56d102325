from collections.abc import Callable

import pytest
from msgspec.structs import replace

from engine import catalogue
from engine.client import EngineState
from engine.config import EngineConfig, SamplingConfig
from engine.errors import ContextOverflowError, EngineDiedError
from engine.request import GenerateRequest, GenerateResult
from lsp_server.completion import CompletionOptions, complete, prompt_form
from lsp_server.prompt import CompletionInput
from tests.lsp_server.scripted_engine import INFO, ScriptedEngine

SMALL = catalogue.entry_of("smollm2-135m")
FIM = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")
AT = CompletionInput(prefix="def add(a, b):\n    ", suffix="\n", language_id="python", path="a.py")


def ready_engine(text: str) -> ScriptedEngine:
    engine = ScriptedEngine(EngineConfig(model="any"), text)
    engine.enter(EngineState.READY)
    return engine


async def test_a_completion_ends_where_a_person_would_stop() -> None:
    engine = ready_engine("return a + b\n\n\ndef sub(a, b):\n    return a - b\n")
    done = await complete(engine, AT, CompletionOptions())
    assert (done.text, done.skipped_reason) == ("return a + b", None)
    assert done.result is not None
    assert "return a - b" not in done.result.text  # the engine was stopped on the way


async def test_the_options_reach_the_engine() -> None:
    engine = ready_engine("return a + b\n")
    options = CompletionOptions(
        max_tokens=5,
        sampling=SamplingConfig(temperature=0.5),
        max_prefix_chars=5,
        max_suffix_chars=0,
        deadline_ms=9.0,
        document="d",
        priority=3,
    )
    await complete(engine, AT, options)
    [request] = engine.requests
    names = ("max_tokens", "sampling", "deadline_ms", "document", "priority")
    assert [getattr(request, n) for n in names] == [getattr(options, n) for n in names]
    assert [part.text for part in request.prompt if not part.is_special] == ["    ", ""]


async def test_where_nothing_fits_the_model_is_not_asked() -> None:
    engine = ready_engine("x")
    at = CompletionInput(prefix="total = val", suffix="ue + 1\n", language_id="python", path="a.py")
    done = await complete(engine, at, CompletionOptions())
    assert (done.text, done.result, engine.requests) == ("", None, [])
    assert done.skipped_reason


async def test_text_of_no_use_is_not_offered() -> None:
    done = await complete(ready_engine("   \n"), AT, CompletionOptions())
    assert (done.text, done.skipped_reason) == ("", "no-use")
    assert done.result is not None


class SmallContext(ScriptedEngine):
    """Takes prompts of so many characters, as an engine takes so many tokens."""

    limit = 300

    async def generate(
        self, request: GenerateRequest, on_text: Callable[[str], bool] | None = None
    ) -> GenerateResult:
        n_chars = sum(len(part.text) for part in request.prompt)
        if n_chars > self.limit:
            raise ContextOverflowError(n_chars, self.limit)
        return await super().generate(request, on_text)


async def test_a_prompt_too_long_for_the_context_is_halved_until_it_fits() -> None:
    engine = SmallContext(EngineConfig(model="any"))
    engine.enter(EngineState.READY)
    at = CompletionInput("x = 1\n" * 400 + AT.prefix, "\n" + "y = 2\n" * 400, "python", "a.py")
    assert (await complete(engine, at, CompletionOptions())).text == "return a + b"
    assert len(engine.requests) == 1
    engine.limit = 10
    with pytest.raises(ContextOverflowError):
        await complete(engine, at, CompletionOptions())


async def test_an_engine_that_failed_is_an_error() -> None:
    engine = ready_engine("x")
    engine.load_error = EngineDiedError("gone")
    engine.enter(EngineState.FAILED)
    with pytest.raises(EngineDiedError, match="gone"):
        await complete(engine, AT, CompletionOptions())


@pytest.mark.parametrize(
    ("name", "path", "special_tokens", "form"),
    [
        ("mine", "/m/mine.gguf", (*FIM, "<|im_end|>"), "fim_psm"),
        ("mine", "/m/mine.gguf", ("<|fim_prefix|>",), "prefix"),
        ("mine", "/m/mine.gguf", (), "prefix"),
        ("smollm2-135m", "/m/x.gguf", FIM, "prefix"),  # what the catalogue measured wins
        (SMALL.file_name, f"/m/{SMALL.file_name}", FIM, "prefix"),
        ("qwen2.5-coder-0.5b", "/m/x.gguf", (), "prefix"),  # unless the tokens are missing
    ],
)
def test_a_model_gets_the_best_form_it_knows(
    name: str, path: str, special_tokens: tuple[str, ...], form: str
) -> None:
    assert prompt_form(replace(INFO, name=name, path=path, special_tokens=special_tokens)) == form
