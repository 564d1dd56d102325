"""Edits that copy: functions to be written again with a variable renamed.

What the model should write is known beforehand, so a report can say how much of it was copied.
"""

import re
import tomllib
from difflib import SequenceMatcher

from engine.request import PromptPart
from lsp_server.cli_bench_texts import SHIPPED, BenchText

_FENCE = "```"


def edit_texts(chat_template: str | None) -> tuple[BenchText, ...]:
    """The shipped functions as chats, the answer's code fence opened already.

    Empty where the model's chat template is not ChatML, the only one that is spoken here.
    """
    if chat_template is None or "<|im_start|>" not in chat_template:
        return ()
    edits = tomllib.loads((SHIPPED / "edits.toml").read_text("utf-8"))["edit"]
    return tuple(edit_text(e["name"], e["language"], e["code"], e["old"], e["new"]) for e in edits)


def edit_text(name: str, language: str, code: str, old: str, new: str) -> BenchText:
    """One rename as a chat; `code` is the reference that drafts may come from."""
    instruction = (
        f"{_FENCE}{language}\n{code}{_FENCE}\n\n"
        f"Rename the variable `{old}` to `{new}` everywhere. Answer with the complete code only."
    )
    expected = re.sub(rf"\b{re.escape(old)}\b", new, code)
    return BenchText(
        name=name,
        prompt=(
            *_turn("system", "You are a helpful assistant."),
            *_turn("user", instruction),
            PromptPart("<|im_start|>", is_special=True),
            PromptPart(f"assistant\n{_FENCE}{language}\n"),
        ),
        max_tokens=len(code) // 2,  # about twice what it takes
        references=(code,),
        stop=(_FENCE,),
        expected=expected,
    )


def copied_share(expected: str, text: str) -> float:
    """How many of the expected lines the text has, in their order: 0..1."""
    wanted, got = expected.splitlines(), text.splitlines()
    matcher = SequenceMatcher(None, wanted, got, autojunk=False)
    return sum(block.size for block in matcher.get_matching_blocks()) / max(len(wanted), 1)


def _turn(role: str, content: str) -> tuple[PromptPart, ...]:
    """ChatML: each message between its two special tokens."""
    return (
        PromptPart("<|im_start|>", is_special=True),
        PromptPart(f"{role}\n{content}"),
        PromptPart("<|im_end|>", is_special=True),
        PromptPart("\n"),
    )
