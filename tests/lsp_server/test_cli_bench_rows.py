from lsp_server.cli_bench_rows import Measurement, Speeds, row, take_turns

ROW_KEYS = {
    "name", "model", "mode", "value", "unit",
    "baseline", "baseline_value", "ratio", "min", "max", "runs",
}  # fmt: skip


def measurement(ours_ms: float, peer_ms: float, calls: list[str]) -> Measurement:
    def timed(name: str, ms: float) -> float:
        calls.append(name)
        return ms

    return Measurement("decode", 10, lambda: timed("ours", ours_ms), lambda: timed("peer", peer_ms))


def test_engines_take_turns_and_the_first_turn_does_not_count() -> None:
    calls: list[str] = []
    (speeds,) = take_turns([measurement(100, 200, calls)], 2, lambda _: None)
    assert calls == ["ours", "peer"] * 3
    assert speeds == Speeds(ours=[100.0, 100.0], peer=[50.0, 50.0])


def test_a_row_holds_medians_and_the_spread() -> None:
    entry = row("decode", "m", Speeds([10.0, 40.0, 20.0], [5.0, 10.0, 40.0]), "lookup")
    assert set(entry) >= ROW_KEYS
    assert (entry["name"], entry["model"], entry["mode"]) == ("decode", "m", "lookup")
    assert (entry["value"], entry["min"], entry["max"], entry["runs"]) == (20.0, 10.0, 40.0, 3)
    assert (entry["baseline"], entry["baseline_value"], entry["ratio"]) == ("llama.cpp", 10.0, 2.0)


def test_a_row_without_a_baseline_says_so() -> None:
    entry = row("decode", "m", Speeds([10.0]))
    assert (entry["baseline"], entry["baseline_value"], entry["ratio"]) == (None, None, None)
    assert (entry["baseline_min"], entry["baseline_max"]) == (None, None)
