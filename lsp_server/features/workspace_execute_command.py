"""workspace/executeCommand: runs what features registered as commands; here are the small ones.

LSP 3.18, "Execute Command". An item carries the first command, so that clients which know nothing
of us report what their users took.
"""

from typing import TYPE_CHECKING, Any

from lsprotocol import types

from lsp_server.features.completion_reports import note_acceptance
from lsp_server.jsonrpc import INVALID_PARAMS, RpcError
from lsp_server.protocol import Command, ExecuteCommandParams

if TYPE_CHECKING:
    from lsp_server.server import FlashServer

ACCEPTED = "flash.completionAccepted"
RESTART = "flash.restart"


def register(ls: "FlashServer") -> None:
    ls.on(types.WORKSPACE_EXECUTE_COMMAND, execute_command)
    ls.on_command(ACCEPTED, completion_accepted)
    ls.on_command(RESTART, restart)


def accepted_command(offer_id: str) -> Command:
    """What an offered item asks its client to run once it is accepted."""
    return Command(title="Accepted", command=ACCEPTED, arguments=[offer_id])


async def execute_command(ls: "FlashServer", params: ExecuteCommandParams) -> Any:
    handler = ls.commands.get(params.command)
    if handler is None:
        known = ", ".join(sorted(ls.commands))
        raise RpcError(INVALID_PARAMS, f"unknown command '{params.command}'; known: {known}")
    return await handler(params)


async def completion_accepted(ls: "FlashServer", params: ExecuteCommandParams) -> None:
    ls.activity.n_accepted += 1
    for offer_id in params.arguments or []:
        note_acceptance(ls, offer_id)


async def restart(ls: "FlashServer", params: ExecuteCommandParams) -> None:
    await ls.engine_owner.restart()
