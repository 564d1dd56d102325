"""Reports to show: literals with every field filled in."""

from typing import Any

from lsp_server.context_report import ContextReport, ContextSpan

HOSTILE = (
    "</script><script>alert(1)</script>",
    "</pre></details></section><img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)" x=\'y\'',
    "<!-- & &lt; &#x202e; ]]>",
)


def span(first_line: int = 0, text: str = "a = 1\n", **more: Any) -> ContextSpan:
    fields: dict[str, Any] = {
        "path": "pkg/config.py",
        "uri": "file:///work/pkg/config.py",
        "n_lines": text.removesuffix("\n").count("\n") + 1,
        "n_tokens": 10,
        "score": 0.5,
        "is_kept": True,
        "reason": "score",
    }
    return ContextSpan(first_line=first_line, text=text, **{**fields, **more})


def report(*spans: ContextSpan, **more: Any) -> ContextReport:
    fields: dict[str, Any] = {
        "mode": "auto",
        "scorer": "incremental",
        "abstained": None,
        "kept_tokens": sum(s.n_tokens for s in spans if s.is_kept),
        "total_tokens": sum(s.n_tokens for s in spans),
        "budget_tokens": 2048,
        "milliseconds": {"index": 3.0, "score": 41.4},
        "n_scored": 40,
        "n_reused": 38,
    }
    return ContextReport(spans=spans, **{**fields, **more})


EXAMPLE = report(
    span(4, "def parse_config(path):\n    return {}\n", score=1.0, reason="defines parse_config"),
    span(20, "OLD = 1\n", score=0.2, is_kept=False, reason="budget"),
    span(30, "NEW = 2\n", score=0.6),
    span(0, "# notes\n", path="notes.py", uri="u", score=0.1, is_kept=False, reason="budget"),
)
