"""What a prompt shows of scored segments, for benchmarks that make prompts without a server."""

from collections.abc import Sequence

from engine.request import Segment, Selection
from lsp_server.diffs import split_lines
from lsp_server.prompt.repository import ShownFile, with_gaps


def shown_files(
    segments: Sequence[Segment], first_lines: Sequence[int], selection: Selection
) -> list[ShownFile]:
    """The kept lines of every file, with their gaps marked; a segment's header names its file and
    `first_lines` says where in it the segment begins."""
    kept: dict[str, list[tuple[int, Sequence[str]]]] = {}
    for segment, first, spans in zip(segments, first_lines, selection.spans, strict=True):
        lines = split_lines(segment.text)
        for span in spans:
            if span.is_kept:
                where = kept.setdefault(segment.header.strip(), [])
                where.append((first + span.first, lines[span.first : span.end]))
    return [ShownFile(name, with_gaps(name, spans)) for name, spans in kept.items()]
