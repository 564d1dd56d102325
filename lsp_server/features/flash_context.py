"""flash/context: what of the repository the model is shown at a place in a document, and why.

flash/contextPage answers the same with a page for editors that can show one.
"""

from typing import TYPE_CHECKING

from lsp_server.context_html import html
from lsp_server.context_report import ContextReport
from lsp_server.features.situation import situation_at
from lsp_server.protocol import FLASH_CONTEXT, FLASH_CONTEXT_PAGE, ContextPage, ContextParams

if TYPE_CHECKING:
    from lsp_server.server import FlashServer


def register(ls: "FlashServer") -> None:
    ls.on(FLASH_CONTEXT, context)
    ls.on(FLASH_CONTEXT_PAGE, context_page)


async def context(ls: "FlashServer", params: ContextParams) -> ContextReport:
    document = ls.documents[params.text_document.uri]
    place = document.place_inside(params.position)
    return (await ls.repository.choose(situation_at(ls, document, place))).report


async def context_page(ls: "FlashServer", params: ContextParams) -> ContextPage:
    report = await context(ls, params)
    path = ls.folders.relative_path(params.text_document.uri)
    title = f"Context at {path}:{params.position.line + 1}:{params.position.character + 1}"
    return ContextPage(report, html(report, title))
