"""What the views of a ContextReport share: spans by file, what lies between, text safe to show.

Paths and texts come from a repository that nobody vouches for. They may hold terminal escapes, or
marks that reverse the reading order so that code looks like other code (CVE-2021-42574); `visible`
writes such characters out.
"""

import re
from collections.abc import Iterator

import msgspec

from lsp_server.context_report import ContextReport, ContextSpan

# Controls but the tab, marks of direction, invisible separators, halves of UTF-16 pairs. Joiners
# (U+200C, U+200D) stay: emoji and several scripts need them.
_HIDDEN = re.compile(
    "[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ud800-\udfff]"
)


class FileSpans(msgspec.Struct, frozen=True, kw_only=True):
    """The spans of one file, by line; at least one."""

    path: str
    uri: str
    spans: tuple[ContextSpan, ...]

    @property
    def kept_tokens(self) -> int:
        return sum(span.n_tokens for span in self.spans if span.is_kept)

    @property
    def total_tokens(self) -> int:
        return sum(span.n_tokens for span in self.spans)

    @property
    def end_line(self) -> int:
        """The line behind the last span."""
        return max(map(end_of, self.spans))

    @property
    def best(self) -> ContextSpan:
        return max(self.spans, key=heat)


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """Lines that were not shown; `dropped` are those of them that were scored."""

    first_line: int
    n_lines: int
    dropped: tuple[ContextSpan, ...]


def by_file(report: ContextReport) -> list[FileSpans]:
    """The report's files in their order."""
    found: dict[tuple[str, str], list[ContextSpan]] = {}
    for span in report.spans:
        found.setdefault((span.path, span.uri), []).append(span)
    return [
        FileSpans(path=path, uri=uri, spans=tuple(sorted(spans, key=lambda s: s.first_line)))
        for (path, uri), spans in found.items()
    ]


def kept_and_gaps(file: FileSpans) -> Iterator[ContextSpan | Gap]:
    """What of the file was shown, and between it what was not, from the first line on."""
    at, dropped = 0, list[ContextSpan]()
    for span in file.spans:
        if not span.is_kept:
            dropped.append(span)
            continue
        if span.first_line > at:
            yield Gap(first_line=at, n_lines=span.first_line - at, dropped=tuple(dropped))
        yield span
        at, dropped = max(at, end_of(span)), []
    if file.end_line > at:
        yield Gap(first_line=at, n_lines=file.end_line - at, dropped=tuple(dropped))


def end_of(span: ContextSpan) -> int:
    """The line behind the span."""
    return span.first_line + span.n_lines


def heat(span: ContextSpan) -> float:
    """The score in 0..1, whatever a scorer came to; what is no number is 0."""
    return min(max(span.score, 0.0), 1.0) if span.score == span.score else 0.0


def lines_of(span: ContextSpan) -> list[str]:
    """The span's lines without their ends, safe to show; none if it has no text."""
    if not span.text:
        return []
    lines = span.text.removesuffix("\n").split("\n")
    return [visible(line.removesuffix("\r")) for line in lines]


def visible(text: str) -> str:
    """Write out the characters that act on the reader's screen instead of being read."""
    return _HIDDEN.sub(lambda found: f"‹U+{ord(found.group()):04X}›", text)


def verdict(report: ContextReport) -> str | None:
    """Why nothing of the repository was shown; None if something was."""
    if report.abstained is not None:
        return f"nothing was shown to the model: {visible(report.abstained)}"
    if report.mode == "off":
        return "nothing was shown to the model: PFlash is off"
    if not report.spans:
        return "nothing was shown to the model: the repository has nothing to choose from"
    return None


def share(part: int, whole: int) -> str:
    """A part of a whole as a percentage."""
    return f"{100 * part / whole if whole else 0:.0f} %"


def counted(n: int, noun: str) -> str:
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"
