"""workspace/didChangeConfiguration and workspace/configuration: the editor's settings.

LSP 3.18, "Configuration Request". A client that can be asked is asked; another one pushes.
"""

from typing import TYPE_CHECKING

from lsprotocol import types

from lsp_server.protocol import ConfigurationParams

if TYPE_CHECKING:
    from lsp_server.server import FlashServer


def register(ls: "FlashServer") -> None:
    ls.on(types.WORKSPACE_DID_CHANGE_CONFIGURATION, did_change_configuration)


async def did_change_configuration(ls: "FlashServer", params: ConfigurationParams) -> None:
    if ls.client.has_configuration:
        await ls.pull_configuration()
    else:
        await ls.reconfigure(params.settings)
