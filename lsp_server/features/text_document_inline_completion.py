"""textDocument/inlineCompletion: ghost text at the cursor.

LSP 3.18, "Inline Completion Request".
"""

from typing import TYPE_CHECKING

from lsprotocol import types

from lsp_server.features.suggestion import Query, suggest
from lsp_server.features.workspace_execute_command import accepted_command
from lsp_server.protocol import (
    AUTOMATIC,
    InlineCompletionParams,
    InlineItem,
    InlineList,
    Position,
    Range,
    SelectedCompletion,
)

if TYPE_CHECKING:
    from lsp_server.server import FlashServer


def register(ls: "FlashServer") -> None:
    # Options, even empty ones, are what makes pygls announce the feature.
    ls.on(
        types.TEXT_DOCUMENT_INLINE_COMPLETION,
        inline_completion,
        types.InlineCompletionOptions(work_done_progress=False),
    )


async def inline_completion(ls: "FlashServer", params: InlineCompletionParams) -> InlineList:
    position, selected = params.position, params.context.selected_completion_info
    is_automatic = params.context.trigger_kind == AUTOMATIC
    if selected is not None and not _is_before_cursor(selected, position):
        return InlineList([])
    query = Query(
        document=params.text_document,
        position=position,
        is_automatic=is_automatic,
        n_wanted=1 if is_automatic else ls.settings.candidates,
        inserted="" if selected is None else selected.text,
        replaced_from=None if selected is None else selected.range.start,
    )
    texts = await suggest(ls, query)
    # Clients show only what begins with the text their popup has selected.
    given = "" if selected is None else selected.text
    where = Range(position, position) if selected is None else selected.range
    return InlineList([_item(ls, params, where, given + text) for text in texts])


def _item(ls: "FlashServer", params: InlineCompletionParams, where: Range, text: str) -> InlineItem:
    document = ls.documents[params.text_document.uri]
    id = ls.acceptance.offer(document, document.place(where.start), text)
    return InlineItem(text, where, accepted_command(id))


def _is_before_cursor(selected: SelectedCompletion, cursor: Position) -> bool:
    """Whether the popup's text would end at the cursor, in the cursor's line."""
    start, end = selected.range.start, selected.range.end
    return end == cursor and start.line == cursor.line and start.character <= cursor.character
