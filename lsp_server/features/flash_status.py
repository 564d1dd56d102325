"""flash/status and flash/restart: what the engine is doing, and a fresh start for it."""

from typing import TYPE_CHECKING

from lsp_server.protocol import FLASH_RESTART, FLASH_STATUS, FlashStatus

if TYPE_CHECKING:
    from lsp_server.server import FlashServer


def register(ls: "FlashServer") -> None:
    ls.on(FLASH_STATUS, status)
    ls.on(FLASH_RESTART, restart)


def status(ls: "FlashServer", params: object) -> FlashStatus:
    return ls.status


async def restart(ls: "FlashServer", params: object) -> FlashStatus:
    await ls.engine_owner.restart()
    return ls.status
