"""What of the repository a prompt gets: from a cursor to a RepositoryBlock and its report.

The index proposes chunks, the engine's scorer judges their lines, and the layout shows whole lines
with their gaps marked (SPEC C.8). The text around the cursor itself is never compressed.
"""

import logging
from collections.abc import Iterable, Sequence
from functools import lru_cache
from time import monotonic
from typing import Protocol

import msgspec
from pathspec import GitIgnoreSpec

from engine.request import Segment, SelectedSpan, Selection, SelectRequest
from lsp_server.context_options import ContextOptions
from lsp_server.context_report import ContextReport, ContextSpan
from lsp_server.diffs import split_lines
from lsp_server.prompt.repository import RepositoryBlock, ShownFile, with_gaps
from lsp_server.prompt.situation import to_line_feeds
from lsp_server.workspace import Candidate, Chunk, CursorQuery, Signature
from lsp_server.workspace.chunking import chunks_of, content_hash
from lsp_server.workspace.identifiers import occurrences
from lsp_server.workspace.imports import imports_of
from lsp_server.workspace.listing import spec_of

log = logging.getLogger(__name__)

# What is scored at most: about 16,000 tokens, four seconds of two cores the first time.
MOST_CHUNKS, MOST_SCORED_CHARS = 64, 56_000
# In "auto", nothing is shown where even the best of it draws less attention than this, beside the
# text before the cursor itself: a weak sign, so it takes a clear case.
LEAST_PULL = 0.7
_NAMED_CHARS, _MOST_NAMES = 1500, 12  # names near the cursor whose definitions are forced
_BODY_LINES = 6  # of a forced definition: what it says of itself, or how it begins
_QUERY_CHARS = 4096


class Index(Protocol):
    """What is asked of the workspace's index."""

    def candidates(self, query: CursorQuery, max_chunks: int = 64) -> list[Candidate]: ...
    def signatures(
        self, names: Iterable[str], exclude_uri: str | None = None
    ) -> list[Signature]: ...
    def chunks_like(self, spec: GitIgnoreSpec, max_chunks: int) -> list[Chunk]: ...


class Proposal(msgspec.Struct, frozen=True):
    """What may be shown at a cursor: chunks in order of preference, and the engine's request."""

    query: CursorQuery
    path: str
    chunks: tuple[Chunk, ...]
    request: SelectRequest
    milliseconds: float


class Choice(msgspec.Struct, frozen=True):
    """The block for the prompt and how it was chosen."""

    block: RepositoryBlock
    report: ContextReport


def propose(index: Index, query: CursorQuery, path: str, options: ContextOptions) -> Proposal:
    """Collect what may be shown at a cursor; reads the index, from any thread."""
    began = monotonic()
    banned = _spec(tuple(options.banned), "pflashBanned")
    pinned = _spec(tuple(options.pinned), "pflashPinned")
    found = index.chunks_like(pinned, MOST_CHUNKS) if options.pinned else []
    n_pinned = len(found)
    candidates = index.candidates(query, MOST_CHUNKS)
    best = max((candidate.score for candidate in candidates), default=0.0) or 1.0
    priors = {one.chunk.content_hash: max(one.score / best, 0.0) for one in candidates}
    found += [candidate.chunk for candidate in candidates]
    found += _own_chunks(query, path, options)
    chunks: dict[tuple[str, int], Chunk] = {}
    n_chars = 0
    for chunk in found:
        key = (chunk.uri, chunk.first_line)
        if banned.match_file(chunk.path) or key in chunks:
            continue
        n_chars += len(chunk.text)
        if n_chars > MOST_SCORED_CHARS and chunks:
            break
        chunks[key] = chunk
    kept = tuple(chunks.values())
    pinned_keys = {(chunk.uri, chunk.first_line) for chunk in found[:n_pinned]}
    named = _named(index, query)
    segments = tuple(
        Segment(
            text=to_line_feeds(chunk.text),
            header=f"{chunk.path}\n",
            prior=priors.get(chunk.content_hash, 0.0),
            forced=_forced(chunk, named, is_pinned=(chunk.uri, chunk.first_line) in pinned_keys),
        )
        for chunk in kept
    )
    request = SelectRequest(
        query=query.text[max(query.offset - _QUERY_CHARS, 0) : query.offset],
        segments=segments,
        budget_tokens=options.budget_tokens,
        keep_ratio=options.keep_ratio,
        least_pull=LEAST_PULL if options.mode == "auto" else 0.0,
    )
    return Proposal(query, path, kept, request, 1e3 * (monotonic() - began))


def chosen(
    proposal: Proposal,
    selection: Selection,
    options: ContextOptions,
    name: str,
    shown: RepositoryBlock | None = None,
) -> Choice:
    """Lay out a selection. Files that `shown` has just so come first, as they were: the engine
    has them in its cache."""
    spans: list[ContextSpan] = []
    kept: dict[str, list[tuple[int, Sequence[str]]]] = {}
    best: dict[str, float] = {}
    for chunk, selected in zip(proposal.chunks, selection.spans, strict=True):
        lines = split_lines(to_line_feeds(chunk.text))
        for span in selected:
            spans.append(_span(chunk, lines, span))
            if span.is_kept:
                first = chunk.first_line + span.first
                kept.setdefault(chunk.path, []).append((first, lines[span.first : span.end]))
                # A file that is shown for what it defines is as near as can be.
                worth = span.score if span.reason == "score" else 1.0
                best[chunk.path] = max(best.get(chunk.path, 0.0), worth)
    files = [ShownFile(path, with_gaps(path, sorted(kept[path]))) for path in kept]
    old = [file for file in (shown.files if shown else ()) if file in files]
    # What matters most is nearest to the cursor.
    new = sorted((file for file in files if file not in old), key=lambda file: best[file.path])
    block = RepositoryBlock(name, (*old, *new), _head(proposal))
    return Choice(block, _report(proposal, selection, options, spans))


@lru_cache(8)
def _spec(patterns: tuple[str, ...], setting: str) -> GitIgnoreSpec:
    return spec_of(patterns, setting, log.warning)


def _own_chunks(query: CursorQuery, path: str, options: ContextOptions) -> list[Chunk]:
    """The document itself as far as the windows around the cursor do not show it."""
    before = query.text[: max(query.offset - options.max_prefix_chars, 0)]
    n_hidden = before.count("\n")
    n_shown = query.text[: query.offset + options.max_suffix_chars].count("\n") + 1
    return [
        Chunk(
            path,
            query.uri,
            span.first_line,
            span.n_lines,
            span.text,
            content_hash(span.text),
            query.language,
        )
        for span in chunks_of(query.text)
        if span.first_line + span.n_lines <= n_hidden or span.first_line >= n_shown
    ]


def _named(index: Index, query: CursorQuery) -> list[Signature]:
    """Definitions of the names used just before the cursor, latest names first."""
    start = max(query.offset - _NAMED_CHARS, 0)
    names = [found.name for found in occurrences(query.text, start, query.offset)]
    latest = list(dict.fromkeys(reversed(names)))[:_MOST_NAMES]
    imported = {
        name for one in imports_of(query.text, query.language, query.uri) for name in one.names
    }
    # A name that is not imported may be anyone's: only what the document takes is surely meant.
    return index.signatures([name for name in latest if name in imported], query.uri)


def _forced(
    chunk: Chunk, named: Sequence[Signature], *, is_pinned: bool
) -> tuple[tuple[int, int, str], ...]:
    """Lines of the chunk that are kept whatever their scores."""
    if is_pinned:
        return ((0, chunk.n_lines, "pinned"),)
    found: list[tuple[int, int, str]] = []
    bodies: list[tuple[int, int, str]] = []
    for one in named:
        first = one.line - chunk.first_line
        if one.path == chunk.path and 0 <= first < chunk.n_lines:
            end = min(first + one.text.count("\n") + 1, chunk.n_lines)
            found.append((first, end, f"defines {one.name}"))
            bodies.append((end, min(end + _BODY_LINES, chunk.n_lines), f"defines {one.name}"))
    return (*found, *bodies)


def _head(proposal: Proposal) -> str:
    """The import lines of the current file."""
    lines = split_lines(to_line_feeds(proposal.query.text[: 64 * 1024]))
    modules = imports_of(proposal.query.text, proposal.query.language, proposal.path)
    if not modules:
        return ""
    return "".join(line for line in lines[:200] if _is_import(line))


def _is_import(line: str) -> bool:
    words = line.split(maxsplit=1)
    return bool(words) and words[0] in ("import", "from", "use", "#include", "require", "using")


def _span(chunk: Chunk, lines: Sequence[str], span: SelectedSpan) -> ContextSpan:
    return ContextSpan(
        path=chunk.path,
        uri=chunk.uri,
        first_line=chunk.first_line + span.first,
        n_lines=span.end - span.first,
        n_tokens=span.n_tokens,
        score=span.score,
        is_kept=span.is_kept,
        reason=span.reason,
        text="".join(lines[span.first : span.end]),
    )


def _report(
    proposal: Proposal,
    selection: Selection,
    options: ContextOptions,
    spans: Sequence[ContextSpan],
) -> ContextReport:
    order = {path: i for i, path in enumerate(dict.fromkeys(span.path for span in spans))}
    return ContextReport(
        mode=options.mode,
        scorer=selection.scorer,
        abstained=selection.abstained,
        kept_tokens=selection.kept_tokens,
        total_tokens=selection.total_tokens,
        budget_tokens=options.budget_tokens,
        milliseconds={"index": proposal.milliseconds, **selection.milliseconds},
        n_scored=selection.n_segments,
        n_reused=selection.n_reused,
        spans=tuple(sorted(spans, key=lambda span: (order[span.path], span.first_line))),
    )
