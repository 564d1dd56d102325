"""Texts that `flash-lsp bench` lets the model go on with: code, held-out files, prose, and text
that nothing can predict.
"""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from engine.errors import RequestError
from engine.request import PromptPart

SHIPPED = Path(__file__).parent / "bench_texts"
FILE_CHARS = 2048  # before a cut, as much as an editor's completion shows by default
LEAST_FILE_LINES = 8
_SEED = 20261123
_WORDS = (
    "amber", "basalt", "cobalt", "dune", "ember", "fjord", "garnet", "heron", "indigo", "kelp",
    "lichen", "marble", "nectar", "onyx", "plover", "quartz", "russet", "sable", "umber", "willow",
)  # fmt: skip


@dataclass(frozen=True)
class BenchText:
    """A prompt, and how far to go on from it. `references` are texts to draft from; `expected` is
    what a faithful model writes, where that is known."""

    name: str
    prompt: tuple[PromptPart, ...]
    max_tokens: int
    references: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()
    expected: str | None = None


def plain_text(name: str, prompt: str, max_tokens: int) -> BenchText:
    return BenchText(name, (PromptPart(prompt),), max_tokens)


def load_prompts(path: Path, max_tokens: int) -> tuple[BenchText, ...]:
    """One prompt per line of JSON: {"prompt": text}, or a chat {"messages": [{"content": text}]} of
    which the text after the first blank line is taken. An "id" names it.

    Raises RequestError with the line's number for anything else.
    """
    texts: list[BenchText] = []
    for number, line in enumerate(_read(path).splitlines(), start=1):
        if line.strip():
            name, prompt = _parse_prompt(line, f"{path}, line {number}")
            texts.append(plain_text(name or f"line {number}", prompt, max_tokens))
    if not texts:
        raise RequestError(f"{path} holds no prompts, expected JSON with one prompt per line")
    return tuple(texts)


def cut_files(paths: Sequence[Path], n_cuts: int, max_tokens: int) -> tuple[BenchText, ...]:
    """Each file cut at `n_cuts` lines drawn at random between its first and its last quarter, the
    same ones in every run. Raises RequestError for a file too short to cut."""
    texts: list[BenchText] = []
    for path in paths:
        lines = _read(path).splitlines(keepends=True)
        if len(lines) < LEAST_FILE_LINES:
            raise RequestError(
                f"{path} has {len(lines)} lines, expected at least {LEAST_FILE_LINES} to cut it"
            )
        inner = range(len(lines) // 4, len(lines) - len(lines) // 4)
        draw = random.Random(f"{_SEED} {path.name}")
        for cut in sorted(draw.sample(inner, min(n_cuts, len(inner)))):
            before = "".join(lines[:cut])[-FILE_CHARS:]
            if cut and len(before) == FILE_CHARS:
                before = before.partition("\n")[2]  # begin with a whole line
            texts.append(plain_text(f"{path.name}:{cut + 1}", before, max_tokens))
    return tuple(texts)


def unpredictable_texts(max_tokens: int) -> tuple[BenchText, ...]:
    """Lists whose lines look alike and whose contents never repeat: bait for anything that drafts
    from what was there before."""
    draw = random.Random(_SEED)
    uuids = "".join(f'    "{_uuid(draw)}",\n' for _ in range(12))
    records = "".join(
        f'  {{"id": "{_uuid(draw)}", "name": "{draw.choice(_WORDS)}-{draw.randrange(10000)}", '
        f'"size": {draw.randrange(10**6)}}},\n'
        for _ in range(6)
    )
    words = " ".join(f"{draw.choice(_WORDS)}{draw.randrange(100)}" for _ in range(80))
    digests = "".join(f"{draw.getrandbits(256):064x}  {_file_name(draw)}\n" for _ in range(6))
    return tuple(
        plain_text(name, prompt, max_tokens)
        for name, prompt in (
            ("uuids", f"IDS = [\n{uuids}"),
            ("records", f"[\n{records}"),
            ("words", words),
            ("digests", digests),
        )
    )


def _parse_prompt(line: str, where: str) -> tuple[str | None, str]:
    try:
        entry: dict[str, Any] = json.loads(line)
        prompt = entry.get("prompt")
        if prompt is None:
            prompt = entry["messages"][0]["content"].partition("\n\n")[2]
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        prompt, entry = None, {}
    if not isinstance(prompt, str) or not prompt:
        raise RequestError(
            f'{where} is no prompt, expected {{"prompt": text}}, or {{"messages": [{{"content": '
            "text}]} with something after a blank line"
        )
    name = entry.get("id")
    return None if name is None else str(name), prompt


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", errors="replace")
    except OSError as error:
        raise RequestError(f"could not read {path}: {error.strerror}") from error


def _uuid(draw: random.Random) -> UUID:
    return UUID(int=draw.getrandbits(128), version=4)


def _file_name(draw: random.Random) -> str:
    return f"{draw.choice(_WORDS)}-{draw.randrange(1000)}.{draw.choice(('bin', 'dat', 'img'))}"
