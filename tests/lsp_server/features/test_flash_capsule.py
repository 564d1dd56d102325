from pathlib import Path

import pytest

from tests.lsp_server import scripted_engine
from tests.lsp_server.conftest import Ask
from tests.lsp_server.memory_editor import ReplyError, Session

EXECUTE = "workspace/executeCommand"


@pytest.fixture
def model_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"weights")
    from msgspec.structs import replace

    monkeypatch.setattr(scripted_engine, "INFO", replace(scripted_engine.INFO, path=str(path)))


@pytest.mark.usefixtures("model_file")
async def test_the_latest_completion_is_answered_as_a_capsule(
    session: Session, ask_inline: Ask
) -> None:
    await ask_inline()
    capsule = await session.editor.request(EXECUTE, {"command": "flash.saveCapsule"})
    assert (capsule["n_tokens"], capsule["text"]) == (2, None)
    asked = {"command": "flash.saveCapsule", "arguments": [{"withText": True}]}
    capsule = await session.editor.request(EXECUTE, asked)
    assert capsule["text"]["shown"] == "return a + b"


async def test_there_must_be_one(session: Session) -> None:
    with pytest.raises(ReplyError, match="no completion to save"):
        await session.editor.request(EXECUTE, {"command": "flash.saveCapsule"})


async def test_arguments_are_checked(session: Session) -> None:
    for arguments in ([1], [{}, {}], [{"withText": "yes"}]):
        with pytest.raises(ReplyError) as refused:
            await session.editor.request(
                EXECUTE, {"command": "flash.saveCapsule", "arguments": arguments}
            )
        assert refused.value.code == -32602
