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
    if selected is None:
        query = Query(document=params.text_document, position=position, is_automatic=is_automatic)
        text = await suggest(ls, query)
        return _offer(text, Range(position, position))
    if not _is_before_cursor(selected, position):
        return InlineList([])
    query = Query(
        document=params.text_document,
        position=position,
        is_automatic=is_automatic,
        inserted=selected.text,
        replaced_from=selected.range.start,
    )
    text = await suggest(ls, query)
    # Clients show only what begins with the text their popup has selected.
    return _offer(text and selected.text + text, selected.range)


def _offer(text: str, where: Range) -> InlineList:
    return InlineList([InlineItem(text, where, accepted_command())] if text else [])


def _is_before_cursor(selected: SelectedCompletion, cursor: Position) -> bool:
    """Whether the popup's text would end at the cursor, in the cursor's line."""
    start, end = selected.range.start, selected.range.end
    return end == cursor and start.line == cursor.line and start.character <= cursor.character
