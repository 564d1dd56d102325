"""What the repository gave to one prompt: spans, their scores, why each is in or out.

Plain data: made beside the prompt, shown by `context_view.py` and `context_html.py`, answered to
`flash/context`.
"""

import msgspec


class ContextSpan(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Whole lines of one file. `first_line` counts from 0; `score` is in 0..1, relative to the best
    of the report; `reason` says why it is in, such as "defines parse_config", "score", "pinned" or
    "imported", or why it is not, such as "budget"."""

    path: str
    uri: str
    first_line: int
    n_lines: int
    n_tokens: int
    score: float
    is_kept: bool
    reason: str
    text: str


class ContextReport(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How the spans of one prompt were chosen.

    `mode` is off, auto or always; `abstained` says why nothing was shown, if nothing was. Of the
    `n_scored` segments, the scorer's keys of `n_reused` were kept from before. `spans` are in file
    order; `milliseconds` has one entry per stage.
    """

    mode: str
    scorer: str
    abstained: str | None
    kept_tokens: int
    total_tokens: int
    budget_tokens: int
    milliseconds: dict[str, float]
    n_scored: int
    n_reused: int
    spans: tuple[ContextSpan, ...]
