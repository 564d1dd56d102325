"""textDocument/copilotInlineEdit: the next change the document is likely to need.

The name, the params and the result are those of GitHub's language server, whose clients can ask for
them; diagnostics, which a server does not see by itself, may come along in `context`. The answer
holds one edit or none.
"""

from typing import TYPE_CHECKING

from engine import catalogue
from engine.client import EngineState
from engine.errors import EngineError
from lsp_server.documents import Document, Place
from lsp_server.jobs import SupersededError, TooManyJobsError
from lsp_server.next_edit import NextEdit, Problem, predicted_edit, repeated_edit
from lsp_server.protocol import (
    COPILOT_INLINE_EDIT,
    DID_SHOW_INLINE_EDIT,
    Command,
    ExecuteCommandParams,
    InlineEdit,
    InlineEditList,
    InlineEditParams,
    Range,
    ShownParams,
    VersionedDocumentId,
)

if TYPE_CHECKING:
    from lsp_server.server import FlashServer

ACCEPTED = "flash.nextEditAccepted"


def register(ls: "FlashServer") -> None:
    ls.on(COPILOT_INLINE_EDIT, inline_edit)
    ls.on(DID_SHOW_INLINE_EDIT, did_show_inline_edit)
    ls.on_command(ACCEPTED, accepted)


async def inline_edit(ls: "FlashServer", params: InlineEditParams) -> InlineEditList:
    document = ls.documents[params.text_document.uri]
    outcome, found = "cancelled", None
    try:
        outcome, found = await _attempt(ls, document, params)
    finally:
        ls.activity.next_edits[outcome] += 1
    return InlineEditList([] if found is None else [_offered(document, found)])


async def _attempt(
    ls: "FlashServer", document: Document, params: InlineEditParams
) -> tuple[str, NextEdit | None]:
    """How it ended, and the edit to offer if there is one."""
    settings, version = ls.settings, document.version
    if not settings.enabled or settings.next_edit == "off":
        return "disabled", None
    if params.text_document.version not in (None, version):
        return "stale-version", None
    path = ls.folders.relative_path(document.uri)
    found = repeated_edit(document, path)
    if found is None and _may_ask_model(ls):
        lines = [(d.range.start.line, d.message) for d in params.context.diagnostics]
        problems = [Problem(line, message) for line, message in lines]
        try:
            found = await ls.next_edits.run(
                document.uri, lambda: _predict(ls, document, path, problems)
            )
        except (SupersededError, TooManyJobsError):
            return "superseded", None
        except EngineError:  # nobody asked for it: its state is shown already
            return "failed", None
        if document.version != version:
            return "stale-version", None
    return ("none", None) if found is None else (f"offered-{found.source}", found)


def _may_ask_model(ls: "FlashServer") -> bool:
    """Whether a model is there that may be asked, by the catalogue or by the user's word."""
    status = ls.engine_owner.status
    if status.state is not EngineState.READY or status.info is None:
        return False
    entry = catalogue.entry_like(status.info.name, status.info.path)
    is_able = entry is not None and entry.next_edit
    return status.info.chat_template is not None and (is_able or ls.settings.next_edit == "model")


async def _predict(
    ls: "FlashServer", document: Document, path: str, problems: list[Problem]
) -> NextEdit | None:
    engine = await ls.engine_owner.engine()
    return await predicted_edit(engine, document, path, problems)


def _offered(document: Document, found: NextEdit) -> InlineEdit:
    """Replace whole lines, the last line end left as it is."""
    edit = found.edit
    text = edit.new
    if edit.end > edit.start:
        last = edit.end - 1
        end = Place(last, len(document.line(last)))
        text = text.removesuffix("\n").removesuffix("\r")
    else:
        end = Place(edit.start, 0)
    return InlineEdit(
        text=text,
        text_document=VersionedDocumentId(document.uri, document.version),
        range=Range(document.position(Place(edit.start, 0)), document.position(end)),
        command=Command(title=found.why, command=ACCEPTED, arguments=[found.source]),
    )


def did_show_inline_edit(ls: "FlashServer", params: ShownParams) -> None:
    ls.activity.next_edits["shown"] += 1


async def accepted(ls: "FlashServer", params: ExecuteCommandParams) -> None:
    ls.activity.next_edits["accepted"] += 1
