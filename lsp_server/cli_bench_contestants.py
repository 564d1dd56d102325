"""Who takes turns in `flash-lsp bench decode` and `bench edit`: our engine in each of its modes,
and llama.cpp in those that were asked for and that it can run.
"""

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from msgspec.structs import replace

from engine.config import EngineConfig, SpeculationMode
from engine.engine import Engine
from engine.errors import EngineError
from lsp_server.cli_bench_peer import LlamaCpp, PeerError
from lsp_server.cli_bench_peer_files import tappable_target, with_vocabulary
from lsp_server.cli_bench_server import DRAFTER_MODES, LlamaServer, PeerMode
from lsp_server.cli_bench_speculation import (
    PLAIN,
    Contestant,
    OwnContestant,
    ServerContestant,
    SteppedContestant,
)

OWN_MODES: tuple[SpeculationMode, ...] = ("lookup", "dflash", "auto")
PEER_MODES = "none,ngram-simple,draft-dflash,draft-dflash=7"


@dataclass
class Field:
    """The contestants, what others should know of them, and which processes are theirs."""

    contestants: list[Contestant]
    remarks: list[str] = field(default_factory=list[str])
    pids: list[int] = field(default_factory=list[int])
    versions: list[str] = field(default_factory=list[str])


@dataclass(frozen=True)
class PeerSetup:
    """How llama.cpp's server is run, beside which modes it is asked for."""

    python: str
    model: Path
    drafter: Path | None
    n_threads: int
    n_ctx: int


def add_own(
    entrants: Field, plain: Engine, config: EngineConfig, only: SpeculationMode | None
) -> list[Engine]:
    """Adds our plain decoding and an engine for each mode, or for one; returns those engines.

    A mode that this model has nothing for becomes a remark.
    """
    entrants.contestants.append(OwnContestant(PLAIN, plain))
    loaded: list[Engine] = []
    for mode in OWN_MODES:
        if only not in (None, mode):
            continue
        try:
            loaded.append(Engine.load(replace(config, speculation=mode)))
        except EngineError as error:
            entrants.remarks.append(f"{mode} was left out: {error}")
            continue
        entrants.contestants.append(OwnContestant(mode, loaded[-1]))
    return loaded


def add_stepped(entrants: Field, peer: LlamaCpp) -> None:
    """Adds llama.cpp without its server."""
    entrants.contestants.append(SteppedContestant(peer))


def add_servers(
    entrants: Field,
    setup: PeerSetup,
    modes: Sequence[PeerMode],
    open_things: ExitStack,
    say: Callable[[str], None],
) -> None:
    """Adds llama.cpp's server in each of `modes`. One that it cannot run becomes a remark."""
    drafting: tuple[Path, Path] | None = None  # the target and the drafter as llama.cpp wants them
    for mode in modes:
        say(f"llama.cpp {mode}: loading")
        model, drafter = setup.model, None
        try:
            if mode.name in DRAFTER_MODES:
                if drafting is None:
                    drafting = _drafting_files(setup, open_things)
                model, drafter = drafting
            server = open_things.enter_context(
                LlamaServer(setup.python, model, setup.n_threads, setup.n_ctx, mode, drafter)
            )
        except (PeerError, EngineError) as error:
            entrants.remarks.append(f"llama.cpp {mode} was left out: {error}")
            continue
        entrants.contestants.append(ServerContestant(str(mode), server))
        entrants.pids.append(server.pid)
        if server.version not in entrants.versions:
            entrants.versions.append(server.version)


def _drafting_files(setup: PeerSetup, open_things: ExitStack) -> tuple[Path, Path]:
    if setup.drafter is None:
        raise PeerError("no drafter is known for this model, expected one named by --drafter")
    copies = Path(open_things.enter_context(tempfile.TemporaryDirectory()))
    return (
        tappable_target(setup.model, copies),
        with_vocabulary(setup.drafter, setup.model, copies),
    )
