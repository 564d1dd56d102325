"""The repository's part of prompts, document by document: there at once, chosen in the background.

A completion takes the block that is ready and never waits for another. A new one is chosen while
nobody waits for the model, replaces the old one only where it is clearly better, and only when the
engine has read it, so that a keystroke costs its own text and not the repository.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from time import monotonic

import msgspec

from engine.client import AsyncEngine
from engine.errors import EngineError
from engine.request import BACKGROUND, GenerateRequest, ModelInfo
from lsp_server.context_choice import Choice, Index, Proposal, chosen, propose
from lsp_server.context_options import ContextOptions
from lsp_server.context_report import ContextReport
from lsp_server.diffs import split_lines
from lsp_server.prompt.repository import RepositoryBlock, block_parts
from lsp_server.workspace import CursorQuery
from lsp_server.workspace.imports import imports_of

log = logging.getLogger(__name__)

_MOST_DOCUMENTS = 32
# The place a block was chosen for, in steps of so many lines.
_PLACE_LINES = 16
_LEAST_AGE_S = 2.0
# The old block stays while it has at least this share of what the new one would give.
_GOOD_ENOUGH = 0.75


class Situation(msgspec.Struct, frozen=True):
    """A cursor in a document: `path` is relative to the workspace, `name` the repository's."""

    query: CursorQuery
    path: str
    name: str


class _State(msgspec.Struct):
    """One document's block, what it was chosen for, and the task that chooses the next."""

    choice: Choice | None = None
    key: object = None
    chosen_s: float = float("-inf")
    task: asyncio.Task[None] | None = None


class ContextCounts(msgspec.Struct, kw_only=True):
    """What choosing did since the start."""

    n_choices: int = 0
    n_adopted: int = 0
    n_kept: int = 0
    n_abstained: int = 0
    n_failed: int = 0


class RepositoryContext:
    """Chooses blocks with the present engine, index and options; None of the last two: no blocks.

    Used from one event loop; `close` ends what runs in the background.
    """

    def __init__(
        self,
        engine: Callable[[], Awaitable[AsyncEngine]],
        index: Callable[[], Index | None],
        options: Callable[[], ContextOptions],
    ) -> None:
        self._engine, self._index, self._options = engine, index, options
        self._states: dict[str, _State] = {}
        self.counts = ContextCounts()

    @property
    def is_on(self) -> bool:
        """Whether there may be blocks at all."""
        return self._index() is not None and self._options().mode != "off"

    def block(self, situation: Situation) -> RepositoryBlock | None:
        """The block that is ready for a prompt at this place; begins to choose a better one."""
        index, options = self._index(), self._options()
        if index is None or options.mode == "off":
            return None
        state = self._state(situation.query.uri)
        self._refresh(state, situation, index, options)
        return state.choice.block if state.choice is not None and state.choice.block else None

    def report(self, uri: str) -> ContextReport | None:
        """How the document's present block was chosen."""
        state = self._states.get(uri)
        return None if state is None or state.choice is None else state.choice.report

    async def choose(self, situation: Situation) -> Choice:
        """Choose for this place now, whatever is ready. Raises EngineError."""
        index, options = self._index(), self._options()
        if index is None or options.mode == "off":
            return Choice(RepositoryBlock(situation.name), _nothing(index, options))
        state = self._state(situation.query.uri)
        shown = None if state.choice is None else state.choice.block
        return await self._choose(situation, index, options, shown, priority=0)

    def drop(self, uri: str) -> None:
        """Forget a document that was closed."""
        state = self._states.pop(uri, None)
        if state is not None and state.task is not None:
            state.task.cancel()

    def clear(self) -> None:
        """Forget all blocks: the engine, the index or the options are others now."""
        for uri in list(self._states):
            self.drop(uri)

    async def idle(self) -> None:
        """Wait until nothing is being chosen; for scripts and tests."""
        while tasks := [state.task for state in self._states.values() if state.task is not None]:
            await asyncio.wait(tasks)

    # ---- in the background ----

    def _state(self, uri: str) -> _State:
        state = self._states.pop(uri, None) or _State()
        self._states[uri] = state  # the latest comes last
        if len(self._states) > _MOST_DOCUMENTS:
            self.drop(next(iter(self._states)))
        return state

    def _refresh(
        self, state: _State, situation: Situation, index: Index, options: ContextOptions
    ) -> None:
        key = _key_of(situation)
        if state.task is not None or key == state.key:
            return
        if monotonic() - state.chosen_s < _LEAST_AGE_S:
            return
        state.key = key
        state.task = asyncio.create_task(self._renew(state, situation, index, options))

    async def _renew(
        self, state: _State, situation: Situation, index: Index, options: ContextOptions
    ) -> None:
        shown = None if state.choice is None else state.choice.block
        try:
            choice = await self._choose(situation, index, options, shown, priority=BACKGROUND)
            self.counts.n_choices += 1
            self.counts.n_abstained += choice.report.abstained is not None
            if state.choice is not None and _is_good_enough(state.choice, choice):
                self.counts.n_kept += 1
                return
            await self._read(situation, choice.block)
            state.choice = choice
            self.counts.n_adopted += 1
        except EngineError as error:
            state.key = None  # the same place is worth another try
            self.counts.n_failed += 1
            log.info("no repository context for %s: %s", situation.path, error)
        finally:
            state.task = None
            state.chosen_s = monotonic()

    async def _choose(
        self,
        situation: Situation,
        index: Index,
        options: ContextOptions,
        shown: RepositoryBlock | None,
        *,
        priority: int,
    ) -> Choice:
        engine = await self._engine()
        info = await engine.ready()
        options = _fitting(options, info)
        proposal: Proposal = await asyncio.to_thread(
            propose, index, situation.query, situation.path, options
        )
        document = f"context {situation.query.uri}" if priority else None
        request = msgspec.structs.replace(proposal.request, priority=priority, document=document)
        selection = await engine.select(request)
        if selection.is_cancelled:
            raise EngineError("choosing was superseded")
        return chosen(proposal, selection, options, situation.name, shown)

    async def _read(self, situation: Situation, block: RepositoryBlock) -> None:
        """Have the engine read a block, so that completions find it in the cache."""
        if not block.files:
            return
        engine = await self._engine()
        parts = block_parts(block, (await engine.ready()).special_tokens)
        document = f"context {situation.query.uri}"
        await engine.generate(
            GenerateRequest(
                prompt=parts, max_tokens=1, priority=BACKGROUND, document=document, keep=True
            )
        )


def _key_of(situation: Situation) -> object:
    """What must change before another block is worth looking for."""
    query = situation.query
    line = query.text.count("\n", 0, query.offset)
    imports = imports_of(query.text, query.language, situation.path)
    return line // _PLACE_LINES, tuple((one.module, one.names) for one in imports)


def _is_good_enough(old: Choice, new: Choice) -> bool:
    """Whether the old block shows most of what the new one would, and nothing that has changed."""
    now = {
        (span.path, span.first_line + i): line
        for span in new.report.spans
        for i, line in enumerate(split_lines(span.text))
    }
    shown: set[tuple[str, int]] = set()
    for span in old.report.spans:
        for i, line in enumerate(split_lines(span.text) if span.is_kept else ()):
            place = (span.path, span.first_line + i)
            if now.get(place, line) != line:
                return False  # the file was edited
            shown.add(place)
    worth = common = 0.0
    for span in new.report.spans:
        if span.is_kept:
            n_shown = sum((span.path, span.first_line + i) in shown for i in range(span.n_lines))
            worth += span.score * span.n_lines
            common += span.score * n_shown
    return old.block.head == new.block.head and common >= _GOOD_ENOUGH * worth


def _fitting(options: ContextOptions, info: ModelInfo) -> ContextOptions:
    """At most half of the model's context is the repository's."""
    budget = min(options.budget_tokens, info.n_ctx // 2)
    return msgspec.structs.replace(options, budget_tokens=budget)


def _nothing(index: Index | None, options: ContextOptions) -> ContextReport:
    why = "there is no index: open a folder" if index is None else "pflashMode is off"
    return ContextReport(
        mode=options.mode,
        scorer="",
        abstained=why,
        kept_tokens=0,
        total_tokens=0,
        budget_tokens=options.budget_tokens,
        milliseconds={},
        n_scored=0,
        n_reused=0,
        spans=(),
    )
