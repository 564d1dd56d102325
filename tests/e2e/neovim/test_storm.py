"""Thirty keys a second leave at most one request in flight, and Neovim answers after every key."""

from pathlib import Path

import pytest

from tests.e2e.neovim.editor import find_neovim, missing
from tests.e2e.neovim.storm import storm_in

pytestmark = pytest.mark.e2e

SECONDS = 5.0


@pytest.mark.parametrize(
    ("version", "drawer"), [("0.11", "plugin"), ("0.12", "builtin"), ("0.12", "plugin")]
)
def test_a_storm_leaves_one_request_in_flight(version: str, drawer: str, tmp_path: Path) -> None:
    binary = find_neovim(version)
    if binary is None:
        pytest.skip(missing(version))
    storm = storm_in(binary, drawer, tmp_path, SECONDS)
    assert storm.keys == storm.keys_answered == storm.keys_in_text
    if drawer == "plugin":  # Neovim's own drawer asks only after 200 ms without a key
        assert storm.requests > storm.keys // 2
    assert storm.most_in_flight <= 1
    assert storm.left_in_flight == 0
