"""flash/context: what of the repository the model is shown at a place in a document, and why."""

from collections.abc import Callable
from typing import Any, Protocol

from lsp_server.context_report import ContextReport
from lsp_server.protocol import FLASH_CONTEXT, ContextParams, Position


class Explainer(Protocol):
    """Chooses the context of a place in an open document. Raises UnknownDocumentError
    and EngineError."""

    async def explain(self, uri: str, position: Position, /) -> ContextReport: ...


class ContextServer(Protocol):
    """What the feature needs of the server."""

    @property
    def context(self) -> Explainer: ...

    def on(self, method: str, handler: Callable[[Any, Any], Any]) -> None: ...


def register(ls: ContextServer) -> None:
    ls.on(FLASH_CONTEXT, context)


async def context(ls: ContextServer, params: ContextParams) -> ContextReport:
    return await ls.context.explain(params.text_document.uri, params.position)
