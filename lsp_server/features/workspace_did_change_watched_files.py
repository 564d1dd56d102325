"""workspace/didChangeWatchedFiles: the workspace index follows changes on disk.

LSP 3.18, "DidChangeWatchedFiles Notification". The client watches once it is asked to.
"""

import logging
from typing import TYPE_CHECKING

from lsprotocol import types

from lsp_server.jsonrpc import RpcError
from lsp_server.protocol import DidChangeWatchedFilesParams

if TYPE_CHECKING:
    from lsp_server.server import FlashServer

log = logging.getLogger(__name__)


def register(ls: "FlashServer") -> None:
    ls.on(types.WORKSPACE_DID_CHANGE_WATCHED_FILES, did_change_watched_files)


def did_change_watched_files(ls: "FlashServer", params: DidChangeWatchedFilesParams) -> None:
    ls.index_owner.files_changed([change.uri for change in params.changes])


async def ask_to_watch(ls: "FlashServer") -> bool:
    """Have the client report changed files; returns whether it will."""
    registration = types.Registration(
        id="flash-watched-files",
        method=types.WORKSPACE_DID_CHANGE_WATCHED_FILES,
        register_options=types.DidChangeWatchedFilesRegistrationOptions(
            watchers=[types.FileSystemWatcher(glob_pattern="**/*")]
        ),
    )
    params = types.RegistrationParams(registrations=[registration])
    try:
        await ls.peer.ask(types.CLIENT_REGISTER_CAPABILITY, params)
    except (RpcError, TimeoutError) as error:
        log.info("the client watches no files: %s", error)
        return False
    return True
