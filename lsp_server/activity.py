"""What happened to completions: counters and the latest timings. Kept in memory, sent nowhere."""

from collections import Counter, deque

import msgspec

from engine.request import GenerateResult
from lsp_server.protocol import RequestRecord, SpeculationRecord

N_RECENT = 32


class Activity:
    """Counts since the server started."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.edits: Counter[str] = Counter()  # "done", or why there was none
        self.next_edits: Counter[str] = Counter()  # offered by what, or why none; shown, accepted
        self.recent: deque[RequestRecord] = deque(maxlen=N_RECENT)
        self.n_focused = self.n_shown = self.n_accepted = self.n_partially_accepted = 0

    def record(
        self, uri: str, outcome: str, total_ms: float, result: GenerateResult | None
    ) -> None:
        """Note how one request ended: "offered", or the reason why nothing was."""
        self.outcomes[outcome] += 1
        record = RequestRecord(uri=uri, outcome=outcome, total_ms=round(total_ms, 2))
        if result is not None:
            record.queue_ms = round(result.timings_ms.queue, 2)
            record.prefill_ms = round(result.timings_ms.prefill, 2)
            record.decode_ms = round(result.timings_ms.decode, 2)
            record.prompt_tokens = len(result.prompt_tokens)
            record.cached_tokens = result.n_cached
            record.tokens = len(result.tokens)
            record.finish_reason = result.finish_reason.value
            record.speculation = msgspec.convert(
                result.speculation, SpeculationRecord, from_attributes=True
            )
        self.recent.append(record)
