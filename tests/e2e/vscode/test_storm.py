"""Thirty keys a second leave at most one request in flight, and no key is lost."""

from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(600),
]

SECONDS = 5.0


async def test_a_storm_leaves_one_request_in_flight(vsix: Path, tmp_path: Path) -> None:
    from tests.e2e.vscode.storm import run_storm, stormy

    async with stormy(vsix, tmp_path) as window:
        storm = await run_storm(window, SECONDS)
    assert storm.keys == storm.keys_in_text
    assert storm.most_in_flight == 1
    assert storm.left_in_flight == 0
