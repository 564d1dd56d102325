import json
from pathlib import Path

import pytest

from engine.errors import RequestError
from engine.request import PromptPart
from lsp_server.cli_bench_texts import SHIPPED, cut_files, load_prompts, unpredictable_texts

CODE = "".join(f"line_{i} = {i}\n" for i in range(200))


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_prompt_is_given_as_it_is_or_after_the_first_blank_line_of_a_chat(tmp_path: Path) -> None:
    chat = {"id": "he_01", "messages": [{"content": "Complete this.\n\ndef f():\n\n    x"}]}
    lines = [json.dumps({"prompt": "def g():\n"}), "", json.dumps(chat)]
    first, second = load_prompts(write(tmp_path / "p.jsonl", "\n".join(lines)), 32)
    assert (first.name, first.prompt) == ("line 1", (PromptPart("def g():\n"),))
    assert (second.name, second.prompt) == ("he_01", (PromptPart("def f():\n\n    x"),))
    assert second.max_tokens == 32


@pytest.mark.parametrize(
    "line",
    ["no json", "[1]", "{}", '{"prompt": 3}', '{"prompt": ""}', '{"messages": [{"content": "x"}]}'],
)
def test_a_line_that_is_no_prompt_is_named(tmp_path: Path, line: str) -> None:
    path = write(tmp_path / "p.jsonl", f'{{"prompt": "x"}}\n{line}\n')
    with pytest.raises(RequestError, match=r"p\.jsonl, line 2 is no prompt, expected"):
        load_prompts(path, 8)


def test_a_file_without_prompts_and_one_that_is_missing_are_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="holds no prompts"):
        load_prompts(write(tmp_path / "empty.jsonl", "\n"), 8)
    with pytest.raises(RequestError, match="could not read"):
        load_prompts(tmp_path / "missing.jsonl", 8)


@pytest.mark.parametrize(("name", "n_least"), [("code", 10), ("prose", 4)])
def test_shipped_prompts_can_be_read(name: str, n_least: int) -> None:
    texts = load_prompts(SHIPPED / f"{name}.jsonl", 128)
    assert len(texts) >= n_least
    assert len({text.name for text in texts}) == len(texts)


def test_files_are_cut_between_lines_at_the_same_places_every_time(tmp_path: Path) -> None:
    path = write(tmp_path / "code.py", CODE)
    texts = cut_files([path], 3, 16)
    assert texts == cut_files([path], 3, 16)
    assert len(texts) == 3
    for text in texts:
        name, _, line = text.name.rpartition(":")
        assert name == "code.py"
        assert 200 // 4 < int(line) <= 200 - 200 // 4
        (part,) = text.prompt
        assert part.text.endswith(f"\nline_{int(line) - 2} = {int(line) - 2}\n")
        assert part.text.startswith("line_")
        assert part.text in CODE
        assert len(part.text) <= 2048


def test_a_file_too_short_to_cut_is_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"short\.py has 2 lines, expected at least 8"):
        cut_files([write(tmp_path / "short.py", "a\nb\n")], 1, 8)
    assert cut_files([], 1, 8) == ()


def test_unpredictable_texts_are_the_same_every_time_and_never_repeat_themselves() -> None:
    texts = unpredictable_texts(64)
    assert texts == unpredictable_texts(64)
    assert {text.name for text in texts} == {"uuids", "records", "words", "digests"}
    for text in texts:
        lines = text.prompt[0].text.split("\n" if "\n" in text.prompt[0].text else " ")
        filled = [line for line in lines if line.strip()]
        assert len(set(filled)) == len(filled)
