"""A conversation as a prompt, laid out by the chat template of the model's own file.

The template is a program from an untrusted file: it runs in a sandbox and never sees what is said,
only marks that stand for it. Control tokens that the template writes become special parts; the
same names inside a message stay plain text, so that no file can end its own turn.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from engine.errors import RequestError, UnsupportedModelError
from engine.request import ModelInfo, PromptPart

_MOST_TEMPLATE_CHARS = 256 * 1024
_MARK = "\ufdd0{}\ufdd1"  # noncharacters: no template has them
_MARKED = re.compile("\ufdd0(\\d+)\ufdd1")


@dataclass(frozen=True)
class Message:
    """`role` is "system", "user" or "assistant"."""

    role: str
    content: str


def chat_prompt(
    info: ModelInfo, messages: Sequence[Message], answer_begins: str = ""
) -> tuple[PromptPart, ...]:
    """Lay out the messages and begin the assistant's answer, which the model is to continue.

    Raises UnsupportedModelError for a model that knows no conversations, RequestError for a
    template that does not work.
    """
    if info.chat_template is None:
        raise UnsupportedModelError(
            "conversation with the model", info.name, ("instruct models with a chat template",)
        )
    contents = [message.content for message in messages] + [answer_begins]
    rendered = _render(info, [message.role for message in messages]) + _MARK.format(len(messages))
    names = sorted((name for name in info.special_tokens if name), key=len, reverse=True)
    pattern = re.compile("|".join(re.escape(name) for name in names) or r"(?!)")
    parts: list[PromptPart] = []
    plain = ""
    at = 0
    for match in pattern.finditer(rendered):
        plain = _filled(rendered[at : match.start()], contents)
        parts += [PromptPart(plain)] if plain else []
        parts.append(PromptPart(match.group(), is_special=True))
        at = match.end()
    plain = _filled(rendered[at:], contents)
    return (*parts, PromptPart(plain)) if plain else tuple(parts)


def _render(info: ModelInfo, roles: Sequence[str]) -> str:
    """The conversation as the template writes it, with marks for what is said."""
    source = info.chat_template or ""
    if len(source) > _MOST_TEMPLATE_CHARS:
        raise RequestError(
            f"the chat template of {info.name} has {len(source)} characters, "
            f"expected at most {_MOST_TEMPLATE_CHARS}; choose another model"
        )
    sandbox = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    sandbox.globals["raise_exception"] = _refuse  # pyright: ignore[reportArgumentType]
    messages = [{"role": role, "content": _MARK.format(n)} for n, role in enumerate(roles)]
    try:
        return sandbox.from_string(source).render(
            messages=messages,
            add_generation_prompt=True,
            bos_token=info.bos_token or "",
            eos_token=info.eos_token or "",
        )
    except Exception as error:  # whatever a program may raise
        raise RequestError(
            f"the chat template of {info.name} failed: {type(error).__name__}: {error}; "
            "choose another model"
        ) from None


def _refuse(message: str) -> str:
    raise jinja2.TemplateError(message)


def _filled(text: str, contents: Sequence[str]) -> str:
    return _MARKED.sub(lambda mark: contents[int(mark[1])], text)
