import msgspec

from engine.request import (
    FinishReason,
    GenerateResult,
    SourceCounts,
    SpeculationReport,
    Timings,
)
from lsp_server.activity import N_RECENT, Activity


def test_only_the_latest_requests_are_kept_but_all_are_counted() -> None:
    activity = Activity()
    for number in range(N_RECENT + 5):
        activity.record(f"file:///{number}", "superseded", 1.2345, None)
    assert activity.outcomes == {"superseded": N_RECENT + 5}
    assert len(activity.recent) == N_RECENT
    assert activity.recent[-1].uri == f"file:///{N_RECENT + 4}"
    assert activity.recent[-1].total_ms == 1.23


def test_what_drafting_did_is_kept_with_its_request() -> None:
    report = SpeculationReport(
        mode="lookup", steps=2, by_source={"lookup": SourceCounts(proposed=3, accepted=1)}
    )
    result = GenerateResult(
        text="x",
        prompt_tokens=[1],
        tokens=[2, 3],
        finish_reason=FinishReason.STOP,
        timings_ms=Timings(),
        speculation=report,
    )
    activity = Activity()
    activity.record("file:///a", "offered", 1.0, result)
    record = msgspec.to_builtins(activity.recent[-1])["speculation"]
    assert record["mode"] == "lookup"
    assert record["bySource"] == {"lookup": {"proposed": 3, "accepted": 1}}
    fields = {field.name for field in msgspec.structs.fields(SpeculationReport)}
    assert len(record) == len(fields)
