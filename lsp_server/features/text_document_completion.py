"""textDocument/completion: the same text as a list item, for clients without ghost text.

LSP 3.18, "Completion Request".
"""

import re
from typing import TYPE_CHECKING

from lsprotocol import types

from lsp_server.convert import completion_item
from lsp_server.documents import Document, Place
from lsp_server.features.suggestion import Query, suggest
from lsp_server.features.workspace_execute_command import accepted_command
from lsp_server.protocol import CompletionParams, Range

if TYPE_CHECKING:
    from lsp_server.server import FlashServer

_WORD_BEFORE_CURSOR = re.compile(r"\w*\Z")


def register(ls: "FlashServer") -> None:
    ls.on(types.TEXT_DOCUMENT_COMPLETION, completion, types.CompletionOptions())


async def completion(ls: "FlashServer", params: CompletionParams) -> types.CompletionList:
    query = Query(document=params.text_document, position=params.position, is_automatic=True)
    texts = await suggest(ls, query)
    if not texts:
        return types.CompletionList(is_incomplete=True, items=[])
    document = ls.documents[params.text_document.uri]
    cursor = document.place(params.position)
    typed = _word_before(document, cursor)
    start = Place(cursor.line, cursor.column - len(typed))
    where = Range(document.position(start), document.position(cursor))
    id = ls.acceptance.offer(document, cursor, texts[0])
    item = completion_item(texts[0], typed, where, accepted_command(id))
    # Incomplete: the next keystroke deserves a new answer, not this one filtered.
    return types.CompletionList(is_incomplete=True, items=[item])


def _word_before(document: Document, cursor: Place) -> str:
    before = document.line(cursor.line)[: cursor.column]
    match = _WORD_BEFORE_CURSOR.search(before)
    return match.group() if match else ""
