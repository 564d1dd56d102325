"""flash/context: what of the repository the model is shown at a place in a document, and why."""

from typing import TYPE_CHECKING

from lsp_server.context_report import ContextReport
from lsp_server.features.situation import situation_at
from lsp_server.protocol import FLASH_CONTEXT, ContextParams

if TYPE_CHECKING:
    from lsp_server.server import FlashServer


def register(ls: "FlashServer") -> None:
    ls.on(FLASH_CONTEXT, context)


async def context(ls: "FlashServer", params: ContextParams) -> ContextReport:
    document = ls.documents[params.text_document.uri]
    place = document.place_inside(params.position)
    return (await ls.repository.choose(situation_at(ls, document, place))).report
