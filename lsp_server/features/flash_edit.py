"""flash.edit: rewrites lines of a document by an instruction, streaming, and answers or applies a
WorkspaceEdit.

LSP 3.18, "Execute Command" and "Applies a WorkspaceEdit". What was said of the answer while it
came, `flash/edit`, is for display; only the WorkspaceEdit is checked.
"""

import asyncio
import itertools
from typing import TYPE_CHECKING, Any, cast

import msgspec
from lsprotocol import types

from engine.errors import EngineError
from lsp_server.change_log import LineSpan, follow
from lsp_server.diffs import line_edits, split_lines
from lsp_server.documents import Document, OutsideTextError, Place, UnknownDocumentError
from lsp_server.edit import EditOptions, rewrite
from lsp_server.jobs import SupersededError, TooManyJobsError
from lsp_server.jsonrpc import INVALID_PARAMS, REQUEST_FAILED, RpcError
from lsp_server.prompt.edit_output import EditRefusal, EditRefusedError
from lsp_server.prompt.edit_prompt import EditInput
from lsp_server.protocol import (
    FLASH_EDIT,
    ApplyEditParams,
    EditArguments,
    EditEvent,
    ExecuteCommandParams,
    ProgressParams,
    Range,
    TextEdit,
    WorkspaceEdit,
)
from lsp_server.workspace_edits import workspace_edit

if TYPE_CHECKING:
    from lsp_server.server import FlashServer

EDIT = "flash.edit"
_IDS = itertools.count(1)


def register(ls: "FlashServer") -> None:
    ls.on_command(EDIT, edit_command)


async def edit_command(ls: "FlashServer", params: ExecuteCommandParams) -> WorkspaceEdit | None:
    """Answers the WorkspaceEdit, or applies it and answers null if the arguments ask for that."""
    arguments = _arguments_of(params)
    run = _Run(ls, arguments, params.partial_result_token)
    try:
        edit = await run.edit()
        if arguments.apply:
            await _apply(ls, edit, arguments.instruction)
    except EditRefusedError as error:
        run.tell("failed", reason=str(error), code=error.reason.value)
        raise RpcError(REQUEST_FAILED, str(error)) from None
    except asyncio.CancelledError:
        run.tell("failed", reason="the edit was cancelled", code=EditRefusal.CANCELLED.value)
        raise
    except (EngineError, RpcError, UnknownDocumentError, OutsideTextError, TimeoutError) as error:
        run.tell("failed", reason=str(error), code="failed")
        raise
    run.tell("done", text=run.replacement)
    return None if arguments.apply else edit


class _Run:
    """One edit and what the client hears of it."""

    def __init__(
        self, ls: "FlashServer", arguments: EditArguments, token: int | str | None
    ) -> None:
        self._ls, self._arguments, self._token = ls, arguments, token
        self._id = arguments.id or f"edit-{next(_IDS)}"
        self.replacement = ""

    def tell(self, kind: str, **more: str) -> None:
        """Say how the edit goes, by the token the client gave if it gave one."""
        if kind != "delta":
            self._ls.activity.edits[more.get("code", kind)] += 1
        if not self._ls.peer.is_open:
            return
        event = EditEvent(id=self._id, uri=self._arguments.uri, kind=kind, **more)
        if self._token is None:
            self._ls.peer.notify(FLASH_EDIT, event)
        else:
            self._ls.peer.notify(types.PROGRESS, ProgressParams(self._token, event))

    async def edit(self) -> WorkspaceEdit:
        """Raises EditRefusedError, EngineError, and what finding the lines raises."""
        ls, arguments = self._ls, self._arguments
        document = ls.documents[arguments.uri]
        if arguments.version not in (None, document.version):
            raise EditRefusedError(EditRefusal.STALE, "the document has changed already; try again")
        span = whole_lines(document, arguments.range)
        version = document.version
        inp = edit_input(ls, document, span, arguments)
        options = EditOptions(document=f"edit {document.uri}")

        async def work() -> str:
            engine = await ls.engine_owner.engine()
            edit = await rewrite(engine, inp, options, lambda text: self.tell("delta", text=text))
            return edit.replacement

        try:
            self.replacement = await ls.edits.run(document.uri, work)
        except SupersededError:
            raise EditRefusedError(
                EditRefusal.SUPERSEDED, "a newer edit of the document took its place"
            ) from None
        except TooManyJobsError as error:
            raise RpcError(REQUEST_FAILED, str(error)) from None
        span = _moved(document, span, version, inp.selection)
        if ls.documents[arguments.uri] is not document:
            raise EditRefusedError(EditRefusal.STALE, "the document was opened anew; try again")
        edits = text_edits(document, span, inp.selection, self.replacement)
        return workspace_edit(ls.client, document, edits, arguments.instruction)


def edit_input(
    ls: "FlashServer", document: Document, span: LineSpan, arguments: EditArguments
) -> EditInput:
    return EditInput(
        before=document.lines(0, span.start),
        selection=document.lines(span.start, span.end),
        after=document.lines(span.end, document.n_lines),
        instruction=arguments.instruction,
        language_id=document.language_id,
        path=ls.folders.relative_path(document.uri),
        keeps_code=arguments.keeps_code,
    )


def whole_lines(document: Document, where: Range) -> LineSpan:
    """The lines a range touches; a last one of which it holds nothing is not among them.

    Raises OutsideTextError.
    """
    start, end = sorted((document.place_inside(where.start), document.place(where.end)))
    is_last_untouched = end.column == 0 and end.line > start.line
    return LineSpan(start.line, end.line if is_last_untouched else end.line + 1)


def text_edits(document: Document, span: LineSpan, old: str, new: str) -> list[TextEdit]:
    """Replace only the lines that differ, so that cursors and folds elsewhere stay."""
    edits: list[TextEdit] = []
    for change in line_edits(split_lines(old), split_lines(new)):
        start = document.position(Place(span.start + change.start, 0))
        end_line = span.start + change.end
        if end_line < document.n_lines:
            end = document.position(Place(end_line, 0))
        else:
            last = document.n_lines - 1
            end = document.position(Place(last, len(document.line(last))))
        edits.append(TextEdit(Range(start, end), change.new))
    return edits


def _moved(document: Document, span: LineSpan, version: int, selection: str) -> LineSpan:
    """Where the lines are now. Raises EditRefusedError if they were changed meanwhile."""
    changes = document.changes.since(version)
    now = None if changes is None else follow(span, changes)
    if now is None or document.lines(now.start, now.end) != selection:
        raise EditRefusedError(
            EditRefusal.STALE, "the lines were changed while the edit was made; try again"
        )
    return now


async def _apply(ls: "FlashServer", edit: WorkspaceEdit, label: str) -> None:
    answer = await ls.peer.ask(types.WORKSPACE_APPLY_EDIT, ApplyEditParams(edit, label), 30.0)
    is_applied = isinstance(answer, dict) and cast("dict[str, Any]", answer).get("applied") is True
    if not is_applied:
        raise EditRefusedError(EditRefusal.STALE, "the editor did not apply the edit; try again")


def _arguments_of(params: ExecuteCommandParams) -> EditArguments:
    try:
        [argument] = params.arguments or []
        return msgspec.convert(argument, EditArguments)
    except (ValueError, msgspec.ValidationError) as error:
        raise RpcError(
            INVALID_PARAMS, f"arguments of '{EDIT}': expected one object: {error}"
        ) from None
