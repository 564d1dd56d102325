"""What the two completion features share: from a position in a document to a text to offer."""

import asyncio
import logging
import time
from typing import TYPE_CHECKING

import msgspec

from engine.client import EngineState
from engine.errors import EngineBusyError
from lsp_server.completion import Completion, CompletionOptions, complete
from lsp_server.documents import Document, Place, UnknownDocumentError, Window
from lsp_server.jobs import SupersededError, TooManyJobsError
from lsp_server.prompt import CompletionInput
from lsp_server.protocol import DocumentId, Position

if TYPE_CHECKING:
    from lsp_server.server import FlashServer

log = logging.getLogger(__name__)

# More than any prompt holds; the rest of a huge document is not even looked at.
_WINDOW_CHARS = 64 * 1024


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """Where to complete. `inserted` is text to imagine in place of what lies between
    `replaced_from` and the position, as if the user had accepted it already."""

    document: DocumentId
    position: Position
    is_automatic: bool = False
    inserted: str = ""
    replaced_from: Position | None = None


async def suggest(ls: "FlashServer", query: Query) -> str:
    """The text to offer at the query's position, "" for none.

    Raises EngineError, and OutsideTextError for a line the document does not have.

    Why nothing is offered is counted in the activity and logged, never shown.
    """
    began, uri = time.perf_counter(), query.document.uri
    completion = Completion(text="")
    outcome = "failed"
    try:
        completion = await _attempt(ls, query)
        outcome = completion.skipped_reason or "offered"
    except (SupersededError, TooManyJobsError, EngineBusyError) as error:
        outcome = "superseded" if isinstance(error, SupersededError) else "too-busy"
    except UnknownDocumentError as error:
        outcome = "unknown-document"
        log.warning("nothing was offered: %s", error)
    except asyncio.CancelledError:
        outcome = "cancelled"
        raise
    finally:
        ls.activity.record(uri, outcome, 1e3 * (time.perf_counter() - began), completion.result)
    log.debug("%s: %s", uri, outcome)
    return completion.text if outcome == "offered" else ""


async def _attempt(ls: "FlashServer", query: Query) -> Completion:
    document = ls.documents[query.document.uri]
    version = document.version
    document.place_inside(query.position)
    reason = _reason_against(ls, document, query)
    if reason is not None:
        return Completion(text="", skipped_reason=reason)
    debounce_s = ls.settings.debounce_ms / 1e3 if query.is_automatic else 0.0
    completion = await ls.jobs.run(document.uri, lambda: _complete(ls, document, query), debounce_s)
    if document.version != version or ls.documents[document.uri] is not document:
        return msgspec.structs.replace(completion, text="", skipped_reason="stale-version")
    return completion


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


async def _complete(ls: "FlashServer", document: Document, query: Query) -> Completion:
    settings = ls.settings
    window = _window(document, query)
    inp = CompletionInput(
        prefix=window.before,
        suffix=window.after,
        language_id=document.language_id,
        path=ls.folders.relative_path(document.uri),
        multiline=settings.multiline,
    )
    options = CompletionOptions(
        max_tokens=settings.max_tokens,
        sampling=settings.sampling,
        max_prefix_chars=settings.prefix_chars,
        max_suffix_chars=settings.suffix_chars,
        deadline_ms=settings.deadline_ms,
        document=document.uri,
    )
    try:
        async with asyncio.timeout(settings.deadline_ms / 1e3):
            engine = await ls.engine_owner.engine()
            await engine.ready()
    except TimeoutError:
        return Completion(text="", skipped_reason="still-loading")
    return await complete(engine, inp, options)


def _window(document: Document, query: Query) -> Window:
    place = document.place(query.position)
    after = document.window(place, 0, _WINDOW_CHARS).after
    start: Place = place if query.replaced_from is None else document.place(query.replaced_from)
    before = document.window(start, _WINDOW_CHARS, 0).before
    return Window(before + query.inserted, after)
