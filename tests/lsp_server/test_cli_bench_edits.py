import re
import tomllib

import pytest

from lsp_server.cli_bench_edits import copied_share, edit_text, edit_texts
from lsp_server.cli_bench_texts import SHIPPED

EDITS = tomllib.loads((SHIPPED / "edits.toml").read_text("utf-8"))["edit"]


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit["name"])
def test_shipped_functions_are_long_and_their_new_name_is_new(edit: dict[str, str]) -> None:
    assert 55 <= len(edit["code"].splitlines()) <= 65
    assert len(re.findall(rf"\b{edit['old']}\b", edit["code"])) >= 5
    assert edit["new"] not in edit["code"]
    assert "```" not in edit["code"]


def test_a_rename_knows_what_should_come_out() -> None:
    text = edit_text("r", "python", "row = rows[0]\nprint(rows)\n", "rows", "records")
    assert text.expected == "row = records[0]\nprint(records)\n"
    assert text.references == ("row = rows[0]\nprint(rows)\n",)
    assert text.stop == ("```",)
    special = [part.text for part in text.prompt if part.is_special]
    assert special == ["<|im_start|>", "<|im_end|>", "<|im_start|>", "<|im_end|>", "<|im_start|>"]
    plain = "".join(part.text for part in text.prompt if not part.is_special)
    assert "```python\nrow = rows[0]\nprint(rows)\n```" in plain
    assert "Rename the variable `rows` to `records`" in plain
    assert plain.endswith("assistant\n```python\n")


def test_only_models_that_chat_in_chatml_are_asked() -> None:
    assert edit_texts(None) == ()
    assert edit_texts("{{ '[INST]' }}") == ()
    assert len(edit_texts("{{ '<|im_start|>' }}")) == len(EDITS)


@pytest.mark.parametrize(
    ("text", "share"),
    [("a\nb\nc\nd\n", 1.0), ("a\nX\nc\nd", 0.75), ("d\nc\nb\na", 0.25), ("", 0.0), ("a\nb\n", 0.5)],
)
def test_the_copied_share_counts_lines_in_order(text: str, share: float) -> None:
    assert copied_share("a\nb\nc\nd\n", text) == share
