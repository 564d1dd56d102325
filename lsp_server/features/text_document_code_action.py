"""textDocument/codeAction: edits by the model that are offered where the cursor is.

LSP 3.18, "Code Action Request". Every action runs the command flash.edit. An instruction of the
user's own needs a client that can ask for one: it names the command which does so as
`experimental.flash.askEditCommand` among its capabilities.
"""

import re
from typing import TYPE_CHECKING

import msgspec
from lsprotocol import types

from engine.client import EngineState
from lsp_server.change_log import LineSpan
from lsp_server.documents import Document, Place
from lsp_server.features.flash_edit import EDIT, whole_lines
from lsp_server.prompt.enclosing import enclosing_definition, is_definition
from lsp_server.protocol import (
    CodeAction,
    CodeActionParams,
    Command,
    Diagnostic,
    EditArguments,
    Range,
)

if TYPE_CHECKING:
    from lsp_server.server import FlashServer

_REWRITE = types.CodeActionKind.RefactorRewrite.value
_FIX = types.CodeActionKind.QuickFix.value
_MOST_LINES = 80  # a model of this size does not rewrite more of them well
_LINES_AROUND_PROBLEM = 6
_SCANNED_LINES = 400
_MOST_PROBLEMS = 3
_TITLE_CHARS = 60
_NAME = re.compile(r"(\w+)\s*(?:<[^>]*>)?\s*(?:[({:=]|$)")
_DOCUMENT = "Write the documentation of this code, in the style of its language. Change no code."
_TESTS = "Write unit tests for {name}, with the test framework usual for this language."


def register(ls: "FlashServer") -> None:
    kinds = [types.CodeActionKind.QuickFix, types.CodeActionKind.RefactorRewrite]
    options = types.CodeActionOptions(code_action_kinds=kinds)
    ls.on(types.TEXT_DOCUMENT_CODE_ACTION, code_action, options)


def code_action(ls: "FlashServer", params: CodeActionParams) -> list[CodeAction]:
    document = ls.documents[params.text_document.uri]
    is_able = ls.client.has_apply_edit and _is_model_able(ls)
    if not is_able or not ls.settings.enabled:
        return []
    document.place_inside(params.range.start)
    actions: list[CodeAction] = []
    if _is_asked_for(params, _FIX):
        actions += [_fix(document, problem) for problem in params.context.diagnostics][
            :_MOST_PROBLEMS
        ]
    if _is_asked_for(params, _REWRITE):
        if ls.client.ask_edit_command is not None:
            actions.append(_ask(ls.client.ask_edit_command, document, params.range))
        actions += _of_definition(document, params.range)
    return actions


def _is_model_able(ls: "FlashServer") -> bool:
    status = ls.engine_owner.status
    is_ready = status.state is EngineState.READY
    return is_ready and status.info is not None and status.info.chat_template is not None


def _is_asked_for(params: CodeActionParams, kind: str) -> bool:
    only = params.context.only
    return only is None or any(kind == o or kind.startswith(f"{o}.") or not o for o in only)


def _ask(command: str, document: Document, where: Range) -> CodeAction:
    arguments = [{"uri": document.uri, "range": where, "version": document.version}]
    title = "Edit with an instruction…"
    return CodeAction(title, _REWRITE, Command(title, command, arguments))


def _fix(document: Document, problem: Diagnostic) -> CodeAction:
    span = _span_to_fix(document, problem)
    line = problem.range.start.line - span.start + 1
    instruction = f"Fix this problem in line {line}: {problem.message}"
    said = problem.message.split("\n", 1)[0]
    short = said if len(said) <= _TITLE_CHARS else said[: _TITLE_CHARS - 1] + "…"
    action = _edit(document, span, f"Fix with the model: {short}", instruction, _FIX)
    return msgspec.structs.replace(action, diagnostics=[problem])


def _of_definition(document: Document, where: Range) -> list[CodeAction]:
    """What can be done to the definition around the range."""
    span = _definition_at(document, where.start.line)
    if span is None or span.end - span.start > _MOST_LINES:
        return []
    name = _name_in(document, span)
    actions = [_edit(document, span, f"Document {name}", _DOCUMENT, _REWRITE, keeps_code=True)]
    last = document.n_lines - 1
    if not document.line(last):  # there is a line to write on
        end = LineSpan(last, last + 1)
        tests = _TESTS.format(name=name)
        actions.append(_edit(document, end, f"Write tests for {name}", tests, _REWRITE))
    return actions


def _edit(
    document: Document,
    span: LineSpan,
    title: str,
    instruction: str,
    kind: str,
    *,
    keeps_code: bool = False,
) -> CodeAction:
    """An action that has the server edit whole lines and apply the edit."""
    last = span.end - 1
    arguments = EditArguments(
        uri=document.uri,
        range=Range(
            document.position(Place(span.start, 0)),
            document.position(Place(last, len(document.line(last)))),
        ),
        instruction=instruction,
        version=document.version,
        apply=True,
        keeps_code=keeps_code,
    )
    return CodeAction(title, kind, Command(title, EDIT, [arguments]))


def _span_to_fix(document: Document, problem: Diagnostic) -> LineSpan:
    """The definition with the problem if it is small, else some lines around it."""
    touched = whole_lines(document, problem.range)
    span = _definition_at(document, touched.start)
    if span is not None and span.end >= touched.end and span.end - span.start <= _MOST_LINES:
        return span
    start = max(0, touched.start - _LINES_AROUND_PROBLEM)
    end = min(document.n_lines, touched.end + _LINES_AROUND_PROBLEM)
    return LineSpan(start, end)


def _definition_at(document: Document, line_idx: int) -> LineSpan | None:
    first = max(0, line_idx - _SCANNED_LINES)
    end = min(document.n_lines, line_idx + _SCANNED_LINES)
    lines = [document.line(n) for n in range(first, end)]
    found = enclosing_definition(lines, line_idx - first)
    return None if found is None else LineSpan(first + found[0], first + found[1])


def _name_in(document: Document, span: LineSpan) -> str:
    """What the definition is called, for a title."""
    heads = (document.line(n) for n in range(span.start, span.end))
    head = next((line for line in heads if is_definition(line)), "")
    match = _NAME.search(head)
    return f"`{match[1]}`" if match else "this code"
