"""textDocument/didOpen, didChange, didClose and didSave: the documents follow the editor.

LSP 3.18, "Text Document Synchronization".
"""

import asyncio
import logging
from typing import TYPE_CHECKING

from lsprotocol import types

from lsp_server.protocol import DidChangeParams, DidCloseParams, DidOpenParams, DidSaveParams

if TYPE_CHECKING:
    from lsp_server.server import FlashServer

log = logging.getLogger(__name__)

_KEY_CHARS = 2  # a key may bring its closing bracket


def register(ls: "FlashServer") -> None:
    ls.on(types.TEXT_DOCUMENT_DID_OPEN, did_open)
    ls.on(types.TEXT_DOCUMENT_DID_CHANGE, did_change)
    ls.on(types.TEXT_DOCUMENT_DID_CLOSE, did_close)
    ls.on(types.TEXT_DOCUMENT_DID_SAVE, did_save, types.SaveOptions(include_text=False))


def did_open(ls: "FlashServer", params: DidOpenParams) -> None:
    item = params.text_document
    document = ls.documents.open(item.uri, item.language_id, item.version, item.text)
    ls.index_owner.document_changed(document)


def did_change(ls: "FlashServer", params: DidChangeParams) -> None:
    named = params.text_document
    document = ls.documents[named.uri]
    if named.version is not None and named.version < document.version:
        log.warning("'%s' went from version %d to %d", named.uri, document.version, named.version)
    document.change(params.content_changes, named.version)
    ls.index_owner.document_changed(document)
    if any(0 < len(change.text) <= _KEY_CHARS for change in params.content_changes):
        document.rhythm.note_key(asyncio.get_running_loop().time())


def did_close(ls: "FlashServer", params: DidCloseParams) -> None:
    ls.documents.close(params.text_document.uri)
    ls.jobs.drop(params.text_document.uri)
    ls.edits.drop(params.text_document.uri)
    ls.next_edits.drop(params.text_document.uri)
    ls.index_owner.document_closed(params.text_document.uri)
    ls.repository.drop(params.text_document.uri)
    ls.ahead.drop(params.text_document.uri)


def did_save(ls: "FlashServer", params: DidSaveParams) -> None:
    """The open text is the truth already; but who saves may have changed other files as well."""
    ls.index_owner.rescan_if_unwatched()
