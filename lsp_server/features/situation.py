"""What features tell the rest of the server about a place in a document."""

from typing import TYPE_CHECKING

from lsp_server.change_log import Place
from lsp_server.documents import Document
from lsp_server.repository_context import Situation
from lsp_server.workspace import CursorQuery

if TYPE_CHECKING:
    from lsp_server.server import FlashServer


def situation_at(ls: "FlashServer", document: Document, place: Place) -> Situation:
    query = CursorQuery(
        uri=document.uri,
        text=document.text,
        offset=document.offset(place),
        language=document.language_id,
        open_uris=tuple(other.uri for other in ls.documents),
    )
    name = ls.folders.name_of(document.uri)
    return Situation(query, ls.folders.relative_path(document.uri), name)
