"""Selections on a tiny model: what is computed, kept, found again, and given up."""

from pathlib import Path

import msgspec
import pytest

from engine.cancel import CancelToken
from engine.config import EngineConfig
from engine.engine import Engine
from engine.request import GenerateRequest, PromptPart, Segment, Selection, SelectRequest
from tests.tiny_gguf import write_tiny_gguf

BODY = "def add{0}(a, b):\n    return a + b\n\n\nclass Value{0}:\n    name = {0}\n\n"
SEGMENTS = tuple(Segment(text=BODY.format(i) * 3, header=f"src/{i}.py\n") for i in range(6))
REQUEST = SelectRequest(query="x = add2(", segments=SEGMENTS, budget_tokens=120)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_gguf(tmp_path_factory.mktemp("model") / "tiny.gguf", "qwen2", "Q8_0")


def load(model: Path, **options: object) -> Engine:
    return Engine.load(EngineConfig(model=str(model), n_threads=1, **options))  # type: ignore[arg-type]


def select(engine: Engine, **changes: object) -> Selection:
    return engine.select(msgspec.structs.replace(REQUEST, **changes), CancelToken())


def kept_lines(selection: Selection) -> list[tuple[int, int]]:
    return [
        (i, line)
        for i, spans in enumerate(selection.spans)
        for span in spans
        if span.is_kept
        for line in range(span.first, span.end)
    ]


def test_only_what_changed_is_computed_again(model: Path):
    engine = load(model)
    first, again = select(engine), select(engine)
    assert (first.n_reused, again.n_reused) == (0, 6)
    assert again.spans == first.spans
    assert first.n_tokens_run - again.n_tokens_run > first.total_tokens // 2
    edited = (*SEGMENTS[:2], Segment(text=SEGMENTS[2].text + "y = 1\n"), *SEGMENTS[3:])
    assert select(engine, segments=edited).n_reused == 5
    assert select(engine, segments=SEGMENTS[::-1]).n_reused == 6


def test_keys_on_disk_serve_the_next_start(model: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(tmp_path))
    first = select(load(model, scorer_disk_bytes=2**22))
    again = select(load(model, scorer_disk_bytes=2**22))
    assert (first.n_reused, again.n_reused) == (0, 6)
    assert again.spans == first.spans


def test_the_budget_and_the_ratio_hold(model: Path):
    engine = load(model)
    assert 0 < select(engine).kept_tokens <= 120
    few = select(engine, keep_ratio=0.1)
    assert 0 < few.kept_tokens <= 0.2 * few.total_tokens
    assert select(engine, budget_tokens=0).kept_tokens == 0


def test_it_abstains_where_the_text_itself_draws_more_attention(model: Path):
    engine = load(model)
    query = BODY.format(7) * 6 + "x = add2("
    pull = select(engine, query=query).pull
    assert pull is not None
    assert pull > 0
    selection = select(engine, query=query, least_pull=pull + 1e-6)
    assert selection.abstained
    assert kept_lines(selection) == []
    assert select(engine, query=query, least_pull=pull - 1e-6).abstained is None
    assert select(engine, segments=()).abstained


def test_it_does_not_abstain_where_there_is_hardly_any_text(model: Path):
    selection = select(load(model), query="x = ", least_pull=100.0)
    assert selection.pull is None
    assert selection.abstained is None


def test_a_cancelled_selection_goes_on_where_it_was(model: Path):
    engine = load(model)
    cancel = CancelToken()
    cancel.cancel()
    assert engine.select(REQUEST, cancel).is_cancelled
    assert kept_lines(select(engine)) == kept_lines(select(load(model)))


def test_another_model_scores_across_tokenizers(model: Path, tmp_path: Path):
    other = write_tiny_gguf(tmp_path / "other.gguf", "llama", "Q8_0")
    selection = select(load(model, scorer=str(other)))
    assert "other" in selection.scorer
    # Tokens are counted in the target's vocabulary whoever scores.
    assert selection.total_tokens == select(load(model)).total_tokens
    assert 0 < selection.kept_tokens <= 120


def test_texts_and_selections_do_not_touch_each_other(model: Path):
    plain, mixed = load(model), load(model)
    request = GenerateRequest(prompt=(PromptPart("def add(a, b):\n"),), max_tokens=12)
    select(mixed)
    expected = plain.generate(request, CancelToken())
    assert mixed.generate(request, CancelToken()).tokens == expected.tokens
    assert select(mixed).n_reused == 6


@pytest.mark.parametrize(
    "text", ["", "\n", "no end of line", "é漢字😀\n" * 30, "\x00\n<|im_end|>\n"]
)
@pytest.mark.parametrize("method", ["incremental", "joint"])
def test_any_text_can_be_a_segment(model: Path, text: str, method):
    segments = (Segment(text=text, header="a\n"), Segment(text=text))
    selection = select(load(model), segments=segments, scorer=method)
    assert [sum(s.end - s.first for s in spans) for spans in selection.spans] == [
        len(text.splitlines()) if "\x00" not in text else 2
    ] * 2
