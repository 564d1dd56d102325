"""flash.saveCapsule: the latest completion as a capsule that `flash-lsp replay` makes again.

LSP 3.18, "Execute Command". The client gets the capsule and keeps it where its user wants; without
`withText` it holds hashes only.
"""

import asyncio
from typing import TYPE_CHECKING

import msgspec

from lsp_server.capsule import Capsule, make_capsule
from lsp_server.jsonrpc import INVALID_PARAMS, REQUEST_FAILED, RpcError
from lsp_server.protocol import CapsuleArguments, ExecuteCommandParams

if TYPE_CHECKING:
    from lsp_server.server import FlashServer

SAVE_CAPSULE = "flash.saveCapsule"


def register(ls: "FlashServer") -> None:
    ls.on_command(SAVE_CAPSULE, save_capsule)


async def save_capsule(ls: "FlashServer", params: ExecuteCommandParams) -> Capsule:
    try:
        [given] = params.arguments or [{"withText": False}]
        arguments = msgspec.convert(given, CapsuleArguments)
    except (ValueError, msgspec.ValidationError) as error:
        raise RpcError(INVALID_PARAMS, f"arguments of '{SAVE_CAPSULE}': {error}") from None
    latest = ls.latest
    if latest is None:
        raise RpcError(REQUEST_FAILED, "there is no completion to save yet")
    engine = await ls.engine_owner.engine()
    # Hashing a model's file takes about a second.
    return await asyncio.to_thread(
        make_capsule,
        latest,
        await engine.ready(),
        ls.settings.engine_config,
        ls.version or "",
        with_text=arguments.with_text,
    )
