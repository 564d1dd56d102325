"""A ContextReport as one self-contained page: files with their heat, the code that was kept.

The page needs no network and runs no script, and its policy allows neither: of styles it admits
the one sheet below, by its hash. Text of the repository reaches it through `_say` only.
"""

import base64
import hashlib
import html as markup
from collections.abc import Iterator

from lsp_server.context_layout import (
    FileSpans,
    by_file,
    counted,
    end_of,
    heat,
    lines_of,
    share,
    verdict,
    visible,
)
from lsp_server.context_report import ContextReport, ContextSpan

_N_HEATS = 10  # classes h0 to h10; one hue, whose strength is the score

_HEAT_RULES = "\n".join(
    f".h{level} {{ --heat: rgb(var(--hue) / {0.08 + 0.92 * level / _N_HEATS:.2f});"
    f" --glow: rgb(var(--hue) / {0.02 + 0.2 * level / _N_HEATS:.2f}); }}"
    for level in range(_N_HEATS + 1)
)

_STYLE = (
    """
:root { color-scheme: light dark; --hue: 214 76 12; --ink: #1c1e21; --paper: #fff; --soft: #5b6470;
  --line: #d8dde3; --bar: #eef1f4; --kept: #1a7f37; }
@media (prefers-color-scheme: dark) { :root { --hue: 255 140 66; --ink: #e3e6ea; --paper: #14171b;
  --soft: #98a2ae; --line: #30363d; --bar: #21262d; --kept: #3fb950; } }
* { box-sizing: border-box; }
body { margin: 0; font: 14px/1.5 system-ui, sans-serif; color: var(--ink);
  background: var(--paper); }
header { padding: 1rem; border-bottom: 1px solid var(--line); }
h1 { margin: 0 0 .5rem; font-size: 1.2rem; overflow-wrap: anywhere; }
h2 { margin: 0 0 .5rem; font-size: 1rem; overflow-wrap: anywhere; }
.verdict { margin: .5rem 0; padding: .5rem .75rem; border: 1px solid var(--line);
  border-left: 4px solid var(--heat); background: var(--glow); overflow-wrap: anywhere; }
.verdict::first-letter { text-transform: uppercase; }
dl { display: flex; flex-wrap: wrap; gap: .25rem 1.5rem; margin: .25rem 0; }
dl div { display: flex; gap: .4rem; }
dt, small, .why, .gap, summary { color: var(--soft); }
dd { margin: 0; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.layout { display: grid; grid-template-columns: minmax(12rem, 20rem) minmax(0, 1fr); }
nav { position: sticky; top: 0; align-self: start; max-height: 100vh; overflow-y: auto;
  padding: 1rem; border-right: 1px solid var(--line); }
nav ol { list-style: none; margin: 0; padding: 0; }
nav a { display: block; padding: .4rem; color: inherit; text-decoration: none;
  overflow-wrap: anywhere; border-radius: 4px; }
nav a:hover, nav a:focus-visible { background: var(--bar); }
svg { display: block; width: 100%; height: 14px; background: var(--bar); }
rect { fill: var(--heat); }
.shown { fill: var(--kept); }
main { min-width: 0; padding: 1rem; }
section { margin-bottom: 2rem; scroll-margin-top: 1rem; }
.kept, .dropped { margin: .25rem 0; border-left: 4px solid var(--heat); }
.kept { background: var(--glow); }
.why, .gap, summary { margin: 0; padding: .15rem .5rem; font-size: .85rem;
  overflow-wrap: anywhere; }
summary { cursor: pointer; }
.code { display: flex; overflow-x: auto; }
pre { margin: 0; padding: .25rem .5rem; font: 12px/1.5 ui-monospace, monospace; tab-size: 4; }
.lines { color: var(--soft); text-align: right; user-select: none; }
.text { direction: ltr; unicode-bidi: isolate; }
@media (max-width: 720px) { .layout { grid-template-columns: minmax(0, 1fr); }
  nav { position: static; max-height: 40vh; border-right: 0; border-bottom: 1px solid var(--line); }
  header, nav, main { padding: .6rem; } }
"""
    + _HEAT_RULES
)


def html(report: ContextReport, title: str) -> str:
    """The page. Nothing in the report or the title can become markup."""
    files = by_file(report)
    digest = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    parts = [
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n',
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
        f"<title>{_say(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n",
        *_header(report, title),
        '<div class="layout">\n<nav aria-label="Files">\n<ol>\n',
        *(_entry(index, file) for index, file in enumerate(files)),
        "</ol>\n</nav>\n<main>\n",
    ]
    for index, file in enumerate(files):
        parts += _section(index, file)
    parts.append("</main>\n</div>\n</body>\n</html>\n")
    return "".join(parts)


def _header(report: ContextReport, title: str) -> Iterator[str]:
    """Totals and timings."""
    kept, total = report.kept_tokens, report.total_tokens
    yield f'<header>\n<h1><bdi dir="ltr">{_say(title)}</bdi></h1>\n'
    if (why := verdict(report)) is not None:
        yield f'<p class="verdict h{_N_HEATS}" role="status">{_say(why)}</p>\n'
    yield _figures(
        {
            "kept": f"{kept:,} of {counted(total, 'token')} ({share(kept, total)})",
            "budget": counted(report.budget_tokens, "token"),
            "mode": report.mode,
            "scorer": report.scorer,
            "segments scored": f"{report.n_scored:,}",
            "keys kept from before": f"{report.n_reused:,}",
        }
    )
    yield _figures({name: f"{ms:.1f} ms" for name, ms in report.milliseconds.items()})
    yield "</header>\n"


def _figures(values: dict[str, str]) -> str:
    rows = (f"<div><dt>{_say(k)}</dt><dd>{_say(v)}</dd></div>" for k, v in values.items())
    return f"<dl>{''.join(rows)}</dl>\n"


def _entry(index: int, file: FileSpans) -> str:
    """A file in the list at the left, with its heat."""
    kept = f"{file.kept_tokens:,} of {counted(file.total_tokens, 'token')}"
    return (
        f'<li><a href="#file-{index}" title="{_say(file.uri)}">'
        f'<bdi dir="ltr">{_say(file.path)}</bdi>{_heat_bar(file)}'
        f"<small>kept {kept} ({share(file.kept_tokens, file.total_tokens)})</small></a></li>\n"
    )


def _heat_bar(file: FileSpans) -> str:
    """The file from its first line (left) to its last: scores above, what was kept below."""
    n_lines = max(file.end_line, 1)
    rects: list[str] = []
    for span in file.spans:
        where = f'x="{span.first_line}" width="{span.n_lines}"'
        rects.append(f'<rect {where} y="0" height="9" class="{_heat_class(span)}"/>')
        if span.is_kept:
            rects.append(f'<rect {where} y="11" height="3" class="shown"/>')
    label = f"scores over {counted(n_lines, 'line')}, best {heat(file.best):.2f}"
    return (
        f'<svg role="img" aria-label="{label}" viewBox="0 0 {n_lines} 14"'
        f' preserveAspectRatio="none">{"".join(rects)}</svg>'
    )


def _section(index: int, file: FileSpans) -> Iterator[str]:
    """A file's spans in order, with what lies between them unscored."""
    yield f'<section id="file-{index}">\n<h2><bdi dir="ltr">{_say(file.path)}</bdi></h2>\n'
    at = 0
    for span in file.spans:
        if span.first_line > at:
            n_lines = counted(span.first_line - at, "line")
            yield f'<p class="gap">… {n_lines} not scored …</p>\n'
        yield _span(span)
        at = max(at, end_of(span))
    yield "</section>\n"


def _span(span: ContextSpan) -> str:
    """Kept code as it is, dropped code folded."""
    lines, tokens = f"lines {span.first_line + 1}–{end_of(span)}", counted(span.n_tokens, "token")
    why = f"{lines} · {heat(span):.2f} · {tokens} · {_say(span.reason)}"
    level = _heat_class(span)
    if span.is_kept:
        return f'<div class="kept {level}"><p class="why">{why}</p>{_code(span)}</div>\n'
    summary = f"<summary>left out: {why}</summary>"
    return f'<details class="dropped {level}">{summary}{_code(span)}</details>\n'


def _code(span: ContextSpan) -> str:
    lines = lines_of(span)
    if not lines:
        return ""
    numbers = "\n".join(str(span.first_line + 1 + index) for index in range(len(lines)))
    # A parser drops the line end that follows <pre>, so that one of ours spares the text's own.
    return (
        f'<div class="code"><pre class="lines" aria-hidden="true">\n{numbers}</pre>'
        f'<pre class="text">\n{markup.escape(chr(10).join(lines))}</pre></div>'
    )


def _heat_class(span: ContextSpan) -> str:
    return f"h{round(heat(span) * _N_HEATS)}"


def _say(text: str) -> str:
    """Foreign text as markup may hold it, in elements and in quoted attributes."""
    return markup.escape(visible(text))
