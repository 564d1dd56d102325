"""The next change that a document is likely to need, from what was lately changed in it.

What can be known without a model comes first. The model is asked only where it was measured to be
right often enough, and believed only where it says the same thing every time.
"""

import difflib
import re
from collections.abc import Sequence

import msgspec

from engine.client import AsyncEngine
from engine.config import SamplingConfig
from lsp_server.change_log import LineSpan
from lsp_server.diffs import LineEdit, line_edits, split_lines
from lsp_server.documents import Document
from lsp_server.edit import EditOptions, rewrite
from lsp_server.edit_history import RecentEdit
from lsp_server.prompt.edit_output import EditRefusedError
from lsp_server.prompt.edit_prompt import EditInput
from lsp_server.prompt.languages import language_of
from lsp_server.repeats import next_repeat

_SHOWN_EDITS = 3
_MOST_PROBLEMS = 3
_LINES_ABOVE, _LINES_BELOW = 3, 9  # of the line where the change is expected
_SEARCHED_LINES = 400
_MOST_CHANGED_LINES = 4
_AGREEING = (SamplingConfig(temperature=0.6, seed=1), SamplingConfig(temperature=0.6, seed=2))
_CONTEXT_CHARS = 1200
_DEADLINE_MS = 10_000.0
_NAME = re.compile(r"[^\W\d]\w{2,}")


class Problem(msgspec.Struct, frozen=True):
    """What the client knows to be wrong in a line, from zero."""

    line: int
    message: str


class NextEdit(msgspec.Struct, frozen=True):
    """`source` is "repeat" or "model"; `why` is fit to be shown."""

    edit: LineEdit
    source: str
    why: str


def repeated_edit(document: Document, path: str) -> NextEdit | None:
    """The next repetition of what was done last, if that is sure."""
    edits = document.edits.edits
    lines = [document.line(n) for n in range(document.n_lines)]
    change = next_repeat(lines, edits, language_of(document.language_id, path))
    if change is None:
        return None
    old = document.lines(change.line, change.line + 1)
    eol = old[len(lines[change.line]) :]
    return NextEdit(LineEdit(change.line, change.line + 1, change.new + eol), "repeat", change.why)


async def predicted_edit(
    engine: AsyncEngine, document: Document, path: str, problems: Sequence[Problem]
) -> NextEdit | None:
    """What the model changes near the last edit, or near a problem; None unless it is sure.

    Raises EngineError.
    """
    edits = document.edits.edits
    if not edits:
        return None
    span = _where_to_look(document, edits[-1], problems)
    if span is None:
        return None
    inp = EditInput(
        before=document.lines(0, span.start),
        selection=document.lines(span.start, span.end),
        after=document.lines(span.end, document.n_lines),
        instruction=_instruction(document, path, span, problems),
        language_id=document.language_id,
        path=path,
    )
    first: str | None = None
    for sampling in (SamplingConfig(), *_AGREEING):
        options = EditOptions(
            max_context_chars=_CONTEXT_CHARS,
            deadline_ms=_DEADLINE_MS,
            document=f"next edit {document.uri}",
            sampling=sampling,
        )
        try:
            text = (await rewrite(engine, inp, options)).replacement
        except EditRefusedError:  # most often because nothing has to change
            return None
        if first is not None and text != first:
            return None
        first = text
    return None if first is None else _only_change(span, inp.selection, first, edits)


def _where_to_look(
    document: Document, last: RecentEdit, problems: Sequence[Problem]
) -> LineSpan | None:
    """Some lines where a change is to be expected: at a problem, else where a name is used that
    the last edit changed or took away."""
    names = _names("".join(last.old)) ^ _names("".join(last.new))
    names |= {name for name in _names("".join(last.old[:1])) if f"{name}(" in "".join(last.new)}
    reach = range(last.end, min(document.n_lines, last.end + _SEARCHED_LINES))
    at = next((p.line for p in problems if p.line < document.n_lines), None)
    if at is None:
        at = next((n for n in reach if names & _names(document.line(n))), None)
    if at is None:
        return None
    start = max(0, at - _LINES_ABOVE)
    if start < last.end <= at:
        start = last.end
    return LineSpan(start, min(document.n_lines, at + _LINES_BELOW))


def _names(text: str) -> set[str]:
    return set(_NAME.findall(text))


def _instruction(document: Document, path: str, span: LineSpan, problems: Sequence[Problem]) -> str:
    shown = "\n".join(_diff_of(edit) for edit in document.edits.edits[-_SHOWN_EDITS:])
    said = [p for p in problems if span.start <= p.line < span.end][:_MOST_PROBLEMS]
    wrong = "".join(f"- {document.line(p.line).strip()}: {p.message}\n" for p in said)
    problems_text = f"It has these problems:\n{wrong}\n" if wrong else ""
    return (
        f"The file was just edited elsewhere:\n\n```diff\n{shown}```\n\n{problems_text}"
        "Make the change that this code needs because of that. "
        "If it needs none, answer with the same code."
    )


def _diff_of(edit: RecentEdit) -> str:
    old, new = ([line.rstrip("\r\n") for line in lines] for lines in (edit.old, edit.new))
    diff = list(difflib.unified_diff(old, new, n=1, lineterm=""))[3:]
    return "".join(f"{line}\n" for line in diff)


def _only_change(
    span: LineSpan, old: str, new: str, edits: Sequence[RecentEdit]
) -> NextEdit | None:
    """The one run of lines that differs, if it is small and undoes nothing that was just done."""
    changes = line_edits(split_lines(old), split_lines(new))
    if len(changes) != 1:
        return None
    [change] = changes
    moved = LineEdit(span.start + change.start, span.start + change.end, change.new)
    n_lines = max(moved.end - moved.start, moved.new.count("\n"))
    is_undone = any(e.start < moved.end and moved.start < e.end for e in edits)
    is_diff = any(line.startswith(("+", "-", "@@")) for line in moved.new.splitlines())
    if n_lines > _MOST_CHANGED_LINES or is_undone or is_diff or not moved.new.strip():
        return None
    return NextEdit(moved, "model", "follows from your edit")
