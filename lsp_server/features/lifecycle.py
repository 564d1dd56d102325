"""initialize, initialized and shutdown; the order of them is kept by jsonrpc.py.

LSP 3.18, "Server lifecycle".
"""

from typing import TYPE_CHECKING

from lsprotocol import types
from pygls.capabilities import ServerCapabilitiesBuilder

from lsp_server.convert import ClientFeatures
from lsp_server.documents import choose_encoding
from lsp_server.protocol import InitializeParams
from lsp_server.transport import watch_parent

if TYPE_CHECKING:
    from lsp_server.server import FlashServer


def register(ls: "FlashServer") -> None:
    ls.on(types.INITIALIZE, initialize)
    ls.on(types.INITIALIZED, initialized)
    ls.on(types.SHUTDOWN, shutdown)


def initialize(ls: "FlashServer", params: InitializeParams) -> types.InitializeResult:
    ls.client = ClientFeatures.of(params.capabilities)
    ls.documents.encoding = choose_encoding(ls.client.position_encodings)
    ls.folders.change(params.workspace_folders or [], [])
    ls.configure(params.initialization_options)
    if params.process_id is not None:
        ls.peer.spawn(watch_parent(params.process_id, ls.hang_up), "watch over the client")
    return types.InitializeResult(
        capabilities=_capabilities(ls),
        server_info=types.ServerInfo(ls.name, ls.version),
    )


async def initialized(ls: "FlashServer", params: object) -> None:
    if ls.client.has_configuration:
        await ls.pull_configuration()
    else:
        await ls.apply_settings()


def shutdown(ls: "FlashServer", params: object) -> None:
    """Nothing to do: what runs is cancelled by the peer, engine and index end with the session."""


def _capabilities(ls: "FlashServer") -> types.ServerCapabilities:
    announced = set(ls.handlers)
    if ls.client.has_inline_completion:
        # Such a client would ask twice for the same text; a script may still send the request.
        announced.discard(types.TEXT_DOCUMENT_COMPLETION)
    return ServerCapabilitiesBuilder(
        types.ClientCapabilities(),
        announced,
        ls.feature_options,
        list(ls.commands),
        types.TextDocumentSyncKind.Incremental,
        None,
        ls.documents.encoding.value,
    ).build()
