import pytest

from tests.lsp_server.conftest import Ask
from tests.lsp_server.memory_editor import ReplyError, Session

EXECUTE = "workspace/executeCommand"


async def test_an_accepted_completion_is_counted(session: Session, ask_inline: Ask) -> None:
    [item] = (await ask_inline())["items"]
    command = {name: item["command"][name] for name in ("command", "arguments")}
    assert await session.editor.request(EXECUTE, command) is None
    assert (await session.editor.request("flash/stats"))["nAccepted"] == 1


async def test_the_engine_can_be_restarted_by_a_command(session: Session) -> None:
    await session.editor.request(EXECUTE, {"command": "flash.restart"})
    assert session.engine.n_restarts == 1


async def test_an_unknown_command_is_refused_with_the_known_ones(session: Session) -> None:
    with pytest.raises(ReplyError, match=r"flash\.restart") as refused:
        await session.editor.request(EXECUTE, {"command": "rm"})
    assert refused.value.code == -32602
