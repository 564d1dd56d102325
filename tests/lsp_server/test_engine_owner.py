import asyncio

from engine.client import EngineState, EngineStatus
from engine.config import EngineConfig
from engine.errors import EngineError
from lsp_server.engine_owner import EngineOwner
from tests.lsp_server.scripted_engine import ScriptedEngine


class Owned:
    def __init__(self) -> None:
        self.engines: list[ScriptedEngine] = []
        self.told: list[EngineState] = []
        self.owner = EngineOwner(self._make, self._hear)

    def _make(self, config: EngineConfig, in_process: bool) -> ScriptedEngine:
        self.engines.append(ScriptedEngine(config))
        return self.engines[-1]

    def _hear(self, status: EngineStatus) -> None:
        self.told.append(status.state)


ONE, OTHER = EngineConfig(model="one"), EngineConfig(model="other")


async def test_an_engine_is_made_once_for_one_configuration() -> None:
    owned = Owned()
    await owned.owner.apply(ONE, False)
    await owned.owner.apply(ONE, False)
    assert len(owned.engines) == 1
    assert owned.owner.status.state is EngineState.READY


async def test_another_configuration_exchanges_it_and_silences_the_old_one() -> None:
    owned = Owned()
    await owned.owner.apply(ONE, False)
    await owned.owner.apply(OTHER, False)
    await owned.owner.apply(OTHER, True)
    assert [e.state.value for e in owned.engines] == ["closed", "closed", "ready"]
    assert EngineState.CLOSED not in owned.told


async def test_who_asks_before_the_start_waits_for_it() -> None:
    owned = Owned()
    asking = asyncio.create_task(owned.owner.engine())
    await asyncio.sleep(0)
    assert owned.owner.status.state is EngineState.STARTING
    await owned.owner.apply(ONE, False)
    assert await asking is owned.engines[0]


async def test_an_engine_that_cannot_start_is_no_exception() -> None:
    class Broken(ScriptedEngine):
        async def start(self) -> None:
            raise EngineError("no")

    owner = EngineOwner(lambda config, in_process: Broken(config), lambda status: None)
    await owner.apply(ONE, False)
    assert owner.status.state is EngineState.STARTING


async def test_after_the_end_no_engine_is_started() -> None:
    owned = Owned()
    await owned.owner.apply(ONE, False)
    await owned.owner.close()
    await owned.owner.apply(OTHER, False)
    await owned.owner.restart()
    await owned.owner.close()
    assert [e.state for e in owned.engines] == [EngineState.CLOSED]
    assert owned.engines[0].n_restarts == 0
