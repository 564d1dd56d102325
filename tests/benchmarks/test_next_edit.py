import subprocess
from pathlib import Path

import pytest

from benchmarks.next_edit import FileChange, file_changes, is_right, replay, states, summed
from lsp_server.diffs import LineEdit

OLD = "def area(a):\n    return a\n\n\nx = area(1)\n\ny = area(2)\n"
NEW = OLD.replace("area", "size")
CHANGE = FileChange("c", "a.py", OLD, NEW)


def test_a_commit_is_edited_run_by_run() -> None:
    texts = [(document.text, is_last) for document, is_last in states(CHANGE)]
    assert [is_last for _, is_last in texts] == [False, False, True]
    assert texts[0][0] == OLD.replace("area", "size", 1)
    assert texts[-1][0] == NEW


def test_an_offer_is_right_if_the_commit_does_all_of_it() -> None:
    document, _ = next(iter(states(CHANGE)))
    assert is_right(document, LineEdit(4, 5, "x = size(1)\n"), NEW)
    assert not is_right(document, LineEdit(4, 5, "x = volume(1)\n"), NEW)
    assert not is_right(document, LineEdit(4, 6, "x = size(1)\n"), NEW)
    assert not is_right(document, LineEdit(1, 2, ""), NEW)


async def test_offers_are_counted_by_what_became_of_them() -> None:
    kept = FileChange("d", "b.py", OLD, OLD.replace("def area", "def size"))
    report = summed(await replay(None, iter([CHANGE, kept]), 100, is_verbose=False))
    assert (report["to_change"], report["nothing_to_change"]) == (2, 2)
    assert (report["repeat"]["offers"], report["repeat"]["right"]) == (3, 2)
    assert report["repeat"]["false_offers"] == pytest.approx(0.5)
    assert report["all"]["precision"] == pytest.approx(2 / 3)


def test_changes_come_from_a_repository(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", "-C", str(tmp_path), *who, *arguments], check=True)

    git("init", "-q")
    for text in (OLD, NEW):
        (tmp_path / "a.py").write_text(text)
        (tmp_path / "a.txt").write_text(text)
        git("add", "-A")
        git("commit", "-q", "-m", "x")
    [change] = file_changes(tmp_path, 10)
    assert (change.path, change.old, change.new) == ("a.py", OLD, NEW)
