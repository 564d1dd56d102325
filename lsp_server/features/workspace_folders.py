"""workspace/didChangeWorkspaceFolders: which folders are open. LSP 3.18, "Workspace Folders"."""

from typing import TYPE_CHECKING

from lsprotocol import types

from lsp_server.protocol import DidChangeFoldersParams

if TYPE_CHECKING:
    from lsp_server.server import FlashServer


def register(ls: "FlashServer") -> None:
    ls.on(types.WORKSPACE_DID_CHANGE_WORKSPACE_FOLDERS, did_change_workspace_folders)


def did_change_workspace_folders(ls: "FlashServer", params: DidChangeFoldersParams) -> None:
    ls.folders.change(params.event.added, params.event.removed)
    ls.peer.spawn(ls.apply_index_settings(), "index the folders")
