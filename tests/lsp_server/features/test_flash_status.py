from collections.abc import Callable

from engine.client import EngineState
from engine.errors import ModelNotFoundError
from tests.lsp_server.memory_editor import Session

STATUS = "flash/didChangeStatus"


async def test_the_status_names_the_model(session: Session) -> None:
    status = await session.editor.request("flash/status")
    assert (status["state"], status["model"]["name"]) == ("ready", "fake")
    assert status["model"]["contextTokens"] == 8192


async def test_every_change_is_told_in_both_dialects(new_session: Callable[..., Session]) -> None:
    session = new_session(model="slow")
    await session.begin()
    session.engine.enter(EngineState.LOADING, "reading the weights", 0.5)
    session.engine.enter(EngineState.READY)
    told = [(s["state"], s["fraction"]) for s in session.editor.notified(STATUS)]
    assert told == [("loading", 0.0), ("loading", 0.5), ("ready", None)]
    told = [(s["busy"], s["kind"]) for s in session.editor.notified("didChangeStatus")]
    assert told == [(True, "Normal"), (True, "Normal"), (False, "Normal")]


async def test_a_failed_load_is_shown_once_and_can_be_restarted(
    new_session: Callable[..., Session],
) -> None:
    session = new_session()
    error = ModelNotFoundError("nil", "run `flash-lsp models fetch nil`")
    session.prepare = lambda engine: setattr(engine, "load_error", error)
    await session.begin()
    await session.editor.until(lambda: session.server.status.state == "failed")
    [shown] = session.editor.notified("window/showMessage")
    assert "flash-lsp models fetch nil" in shown["message"]
    assert session.editor.notified("didChangeStatus")[-1]["kind"] == "Error"
    assert (await session.editor.request("flash/status"))["state"] == "failed"
    assert (await session.editor.request("flash/restart"))["state"] == "ready"
