"""What the two completion features share: from a position in a document to a text to offer."""

import asyncio
import dataclasses
import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from engine.client import EngineState
from engine.errors import EngineBusyError
from engine.request import BACKGROUND, FinishReason, GenerateResult
from lsp_server.capsule import Latest
from lsp_server.completion import (
    Completion,
    CompletionOptions,
    complete,
    complete_variously,
)
from lsp_server.documents import Document, Place, UnknownDocumentError, Window
from lsp_server.features.situation import situation_at
from lsp_server.jobs import SupersededError, TooManyJobsError
from lsp_server.prompt import CompletionInput, postprocess
from lsp_server.protocol import DocumentId, Position

if TYPE_CHECKING:
    from lsp_server.server import FlashServer

log = logging.getLogger(__name__)

# More than any prompt holds; the rest of a huge document is not even looked at.
_WINDOW_CHARS = 64 * 1024


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """Where to complete, and how many texts to choose from are welcome. `inserted` is text to
    imagine in place of what lies between `replaced_from` and the position, as if the user had
    accepted it already."""

    document: DocumentId
    position: Position
    is_automatic: bool = False
    n_wanted: int = 1
    inserted: str = ""
    replaced_from: Position | None = None


class _Answer(msgspec.Struct, frozen=True):
    """`texts` to offer, best first, or the reason for none."""

    texts: tuple[str, ...] = ()
    outcome: str = "offered"
    result: GenerateResult | None = None


async def suggest(ls: "FlashServer", query: Query) -> tuple[str, ...]:
    """The texts to offer at the query's position, best first; () for none.

    Raises EngineError, and OutsideTextError for a line the document does not have.

    Why nothing is offered is counted in the activity and logged, never shown.
    """
    began, uri = time.perf_counter(), query.document.uri
    answer = _Answer(outcome="failed")
    try:
        answer = await _attempt(ls, query)
    except (SupersededError, TooManyJobsError, EngineBusyError) as error:
        is_superseded = isinstance(error, SupersededError)
        answer = _Answer(outcome="superseded" if is_superseded else "too-busy")
    except UnknownDocumentError as error:
        answer = _Answer(outcome="unknown-document")
        log.warning("nothing was offered: %s", error)
    except asyncio.CancelledError:
        answer = _Answer(outcome="cancelled")
        raise
    finally:
        total_ms = 1e3 * (time.perf_counter() - began)
        ls.activity.record(uri, answer.outcome, total_ms, answer.result)
    log.debug("%s: %s", uri, answer.outcome)
    return answer.texts


async def _attempt(ls: "FlashServer", query: Query) -> _Answer:
    document = ls.documents[query.document.uri]
    version = document.version
    place = document.place_inside(query.position)
    reason = _reason_against(ls, document, query)
    if reason is not None:
        return _Answer(outcome=reason)
    inp = _input(ls, document, query)
    if served := ls.suggestions.serve(document.uri, inp, query.n_wanted):
        return _Answer(served[: query.n_wanted], "offered-from-cache")
    completions = await ls.jobs.run(
        document.uri,
        lambda: _complete(ls, document, place, inp, query),
        _wait_s(ls, query),
    )
    first = completions[0]
    texts = tuple(completion.text for completion in completions if completion.text)
    # Kept even if it comes too late: the keys pressed meanwhile may be the ones it predicts.
    ls.suggestions.add(document.uri, inp, query.n_wanted, texts)
    if document.version != version or ls.documents[document.uri] is not document:
        return _Answer(outcome="stale-version", result=first.result)
    if not texts:
        return _Answer(outcome=first.skipped_reason or "no-use", result=first.result)
    return _Answer(texts, result=first.result)


def _reason_against(ls: "FlashServer", document: Document, query: Query) -> str | None:
    """Why nothing should be offered, where that is known without the model."""
    if not ls.settings.enabled:
        return "disabled"
    if document.language_id in ls.settings.disabled_languages:
        return "disabled-language"
    if query.document.version not in (None, document.version):
        return "stale-version"
    if ls.engine_owner.status.state in (EngineState.FAILED, EngineState.CLOSED):
        return "no-engine"
    return None


def _wait_s(ls: "FlashServer", query: Query) -> float:
    """How long to wait for another key first: not at all for a user who asked."""
    if not query.is_automatic:
        return 0.0
    now_s = asyncio.get_running_loop().time()
    longest_s = ls.settings.debounce_ms / 1e3
    return ls.documents[query.document.uri].rhythm.wait_s(now_s, longest_s)


def _input(ls: "FlashServer", document: Document, query: Query) -> CompletionInput:
    window = _window(document, query)
    return CompletionInput(
        prefix=window.before,
        suffix=window.after,
        language_id=document.language_id,
        path=ls.folders.relative_path(document.uri),
        multiline=ls.settings.multiline,
    )


async def _complete(
    ls: "FlashServer", document: Document, place: Place, inp: CompletionInput, query: Query
) -> list[Completion]:
    settings = ls.settings
    try:
        async with asyncio.timeout(settings.deadline_ms / 1e3):
            engine = await ls.engine_owner.engine()
            await engine.ready()
    except TimeoutError:
        return [Completion(text="", skipped_reason="still-loading")]
    if ls.repository.is_on:
        block = ls.repository.block(situation_at(ls, document, place))
        inp = dataclasses.replace(inp, repository=block)
    options = _options(ls, document.uri)
    if query.is_automatic:
        n_chars = ls.pace.suffix_chars(options.max_suffix_chars, ls.settings.latency_budget_ms)
        options = msgspec.structs.replace(options, max_suffix_chars=n_chars)
    ls.ahead.drop(document.uri)
    text = _TextSoFar(inp)
    generating = asyncio.ensure_future(
        complete_variously(engine, inp, options, query.n_wanted, text.add)
    )
    try:
        if query.is_automatic:
            early = await text.early(generating, settings.latency_budget_ms / 1e3)
            if early:
                ls.ahead.follow(document.uri, _finish(ls, document.uri, inp, generating))
                return [Completion(text=early)]
        completions = await generating
    except asyncio.CancelledError:
        generating.cancel()
        raise
    _note(ls, inp, completions)
    if query.is_automatic and completions[0].text:
        ls.ahead.follow(document.uri, _foresee(ls, document.uri, inp, completions[0].text))
    return completions


def _options(ls: "FlashServer", document: str) -> CompletionOptions:
    settings = ls.settings
    return CompletionOptions(
        max_tokens=settings.max_tokens,
        sampling=settings.sampling,
        max_prefix_chars=settings.prefix_chars,
        max_suffix_chars=settings.suffix_chars,
        deadline_ms=settings.deadline_ms,
        document=document,
    )


class _TextSoFar:
    """What the model has written of a completion."""

    def __init__(self, inp: CompletionInput) -> None:
        self._inp, self._text = inp, ""
        self._has_line = asyncio.Event()

    def add(self, piece: str) -> None:
        self._text += piece
        if self._text.strip() and "\n" in self._text.lstrip("\n"):
            self._has_line.set()

    async def early(self, generating: "asyncio.Future[list[Completion]]", budget_s: float) -> str:
        """Whole lines to offer once the budget is spent; "" if all of it comes first."""
        await asyncio.wait({generating}, timeout=budget_s)
        has_line = asyncio.ensure_future(self._has_line.wait())
        try:
            await asyncio.wait({generating, has_line}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            has_line.cancel()
        if generating.done():
            return ""
        return postprocess(self._inp, self._text, is_complete=False)


async def _finish(
    ls: "FlashServer",
    uri: str,
    inp: CompletionInput,
    generating: "asyncio.Future[list[Completion]]",
) -> None:
    """Keep the rest of a text whose beginning was offered: who accepts that is served at once."""
    try:
        completions = await generating
    finally:
        generating.cancel()
    _note(ls, inp, completions)
    text = completions[0].text
    ls.suggestions.add(uri, inp, 1, (text,))
    if text:
        await _foresee(ls, uri, inp, text)


async def _foresee(ls: "FlashServer", uri: str, inp: CompletionInput, text: str) -> None:
    """Complete what follows if the user accepts `text`, while nobody else wants the model."""
    if not ls.settings.prefetch:
        return
    then = dataclasses.replace(inp, prefix=inp.prefix + text)
    options = msgspec.structs.replace(
        _options(ls, f"ahead {uri}"), deadline_ms=None, priority=BACKGROUND
    )
    done = await complete(await ls.engine_owner.engine(), then, options)
    if done.result is not None and done.result.finish_reason is not FinishReason.CANCELLED:
        ls.suggestions.add(uri, then, 1, (done.text,) if done.text else ())


def _note(ls: "FlashServer", inp: CompletionInput, completions: Sequence[Completion]) -> None:
    if (result := completions[0].result) is not None:
        ls.pace.note(result)
        ls.latest = Latest(inp, completions[0])


def _window(document: Document, query: Query) -> Window:
    place = document.place(query.position)
    after = document.window(place, 0, _WINDOW_CHARS).after
    start: Place = place if query.replaced_from is None else document.place(query.replaced_from)
    before = document.window(start, _WINDOW_CHARS, 0).before
    return Window(before + query.inserted, after)
