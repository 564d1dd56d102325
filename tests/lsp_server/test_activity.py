from lsp_server.activity import N_RECENT, Activity


def test_only_the_latest_requests_are_kept_but_all_are_counted() -> None:
    activity = Activity()
    for number in range(N_RECENT + 5):
        activity.record(f"file:///{number}", "superseded", 1.2345, None)
    assert activity.outcomes == {"superseded": N_RECENT + 5}
    assert len(activity.recent) == N_RECENT
    assert activity.recent[-1].uri == f"file:///{N_RECENT + 4}"
    assert activity.recent[-1].total_ms == 1.23
