"""A ContextReport for terminals, and as JSON for programs."""

from collections.abc import Iterator
from typing import Any

import msgspec
from rich.console import Group, RenderableType
from rich.text import Text

from lsp_server.context_layout import (
    FileSpans,
    Gap,
    by_file,
    counted,
    end_of,
    heat,
    kept_and_gaps,
    lines_of,
    share,
    verdict,
    visible,
)
from lsp_server.context_report import ContextReport, ContextSpan

_BARS = "▁▂▃▄▅▆▇█"
_COLOURS = ("blue", "cyan", "yellow", "red")  # of the quarters of the score, coldest first
_TAB_COLUMNS = 4
_MOST_DROPPED_FILES = 20


def as_json(report: ContextReport) -> dict[str, Any]:
    """The report as `flash/context` answers it; keys are only ever added."""
    return msgspec.to_builtins(report)


def terminal(report: ContextReport, width: int) -> RenderableType:
    """The kept lines under their files, with their scores; no line is wider than `width`."""
    files = by_file(report)
    shown = [file for file in files if any(span.is_kept for span in file.spans)]
    dropped = [file for file in files if file not in shown]
    rows: list[Text] = []
    for file in shown:
        rows += [*_file(file), Text()]
    if dropped:
        rows += [*_dropped_files(dropped), Text()]
    if (why := verdict(report)) is not None:
        rows.append(Text(why, style="bold yellow"))
    rows += _summary(report)
    for row in rows:
        row.expand_tabs(_TAB_COLUMNS)
        row.truncate(max(width, 1), overflow="ellipsis")
        row.no_wrap = True
    return Group(*rows)


def _file(file: FileSpans) -> Iterator[Text]:
    kept = f"kept {file.kept_tokens:,} of {counted(file.total_tokens, 'token')}"
    yield Text.assemble(
        (f"{share(file.kept_tokens, file.total_tokens):>5}  ", "bold green"),
        (visible(file.path), "bold"),
        (f"  {kept}", "dim"),
    )
    n_digits = len(str(file.end_line))
    for piece in kept_and_gaps(file):
        if isinstance(piece, Gap):
            yield _gap(piece, n_digits)
        else:
            yield from _kept(piece, n_digits)


def _kept(span: ContextSpan, n_digits: int) -> Iterator[Text]:
    """Why the span is there, then its lines, each behind its number and the span's score."""
    score = heat(span)
    bar, colour = _bar(score), _colour(score)
    why = f"{visible(span.reason)} · {score:.2f} · {counted(span.n_tokens, 'token')}"
    yield Text.assemble((f"{'':>{n_digits}} {bar} ", colour), (why, f"italic {colour}"))
    for number, line in enumerate(lines_of(span), span.first_line + 1):
        yield Text.assemble(
            (f"{number:>{n_digits}} ", "dim"),
            (f"{bar} ", colour),
            line.expandtabs(_TAB_COLUMNS),
        )


def _gap(gap: Gap, n_digits: int) -> Text:
    """How much was left out, and the best of it."""
    text = f"{'':>{n_digits}} … {counted(gap.n_lines, 'line')} left out"
    if gap.dropped:
        best = max(gap.dropped, key=heat)
        text += f", best {heat(best):.2f}: {visible(best.reason)}"
    return Text(f"{text} …", style="dim")


def _dropped_files(files: list[FileSpans]) -> Iterator[Text]:
    """The files of which nothing was kept, best first."""
    yield Text(f"nothing kept of {counted(len(files), 'file')}:", style="dim")
    ranked = sorted(files, key=lambda file: -heat(file.best))
    for file in ranked[:_MOST_DROPPED_FILES]:
        best = file.best
        where = f"lines {best.first_line + 1}-{end_of(best)}, {visible(best.reason)}"
        score = heat(best)
        yield Text.assemble(
            (f"  {_bar(score)} {score:.2f}  ", _colour(score)),
            visible(file.path),
            (f"  {where}", "dim"),
        )
    if len(ranked) > _MOST_DROPPED_FILES:
        yield Text(f"  … and {len(ranked) - _MOST_DROPPED_FILES:,} more …", style="dim")


def _summary(report: ContextReport) -> Iterator[Text]:
    kept, total = report.kept_tokens, report.total_tokens
    yield Text.assemble(
        (f"kept {kept:,} of {counted(total, 'token')} ({share(kept, total)})", "bold"),
        f", budget {report.budget_tokens:,} · mode {visible(report.mode)}",
    )
    scored = counted(report.n_scored, "segment")
    stages = [f"{visible(name)} {ms:.0f} ms" for name, ms in report.milliseconds.items()]
    scorer = f"{visible(report.scorer)}: {scored} scored, {report.n_reused:,} kept from before"
    yield Text(" · ".join([scorer, *stages]), style="dim")


def _bar(score: float) -> str:
    return _BARS[min(int(score * len(_BARS)), len(_BARS) - 1)]


def _colour(score: float) -> str:
    return _COLOURS[min(int(score * len(_COLOURS)), len(_COLOURS) - 1)]
