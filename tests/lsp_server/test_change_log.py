import random

import pytest

from lsp_server.change_log import ChangeLog, LineSpan, Place, follow
from lsp_server.documents import Document, PositionEncoding
from lsp_server.protocol import ContentChange, Position, Range

SPAN = LineSpan(2, 4)


@pytest.mark.parametrize(
    ("start", "old", "new", "now"),
    [
        (Place(0, 0), "a", "b", SPAN),
        (Place(0, 0), "", "x\ny\n", LineSpan(4, 6)),
        (Place(0, 0), "x\r\ny\r", "", LineSpan(0, 2)),
        (Place(2, 0), "", "x\n", LineSpan(3, 5)),
        (Place(1, 3), "\n", "", LineSpan(1, 3)),  # joined to the line before
        (Place(2, 1), "", "x", None),
        (Place(3, 9), "\n", "", None),  # joins the last line to the one after
        (Place(4, 0), "x", "\n", SPAN),
        (Place(9, 0), "x", "", SPAN),
    ],
)
def test_lines_are_followed_unless_a_change_touches_them(
    start: Place, old: str, new: str, now: LineSpan | None
) -> None:
    log = ChangeLog()
    log.record(2, start, old, new)
    assert follow(SPAN, log.since(1) or []) == now


def test_only_later_changes_count_and_none_where_nothing_changed() -> None:
    log = ChangeLog()
    log.record(2, Place(0, 0), "a", "b")
    log.record(3, Place(0, 0), "b", "b")
    assert log.since(2) == []
    assert [change.version for change in log.since(1) or []] == [2]


def test_forgotten_changes_are_not_taken_for_none() -> None:
    log = ChangeLog()
    for version in range(1, 1000):
        log.record(version, Place(0, 0), "", "x")
    assert log.since(1) is None
    assert log.since(998) is not None
    log.record(1000, Place(0, 0), "", "x" * 2**19)
    assert log.since(999) is None
    assert log.since(1000) == []


def test_followed_lines_are_the_same_lines_of_the_document() -> None:
    rng = random.Random(1)
    for _ in range(300):
        lines = [f"{n}" for n in range(12)]
        document = Document("u", "", 0, "\n".join(lines), PositionEncoding.UTF16)
        span = LineSpan(5, 7)
        kept = document.lines(5, 7)
        for _ in range(rng.randrange(1, 4)):
            ends = sorted((rng.randrange(12), rng.randrange(3)) for _ in range(2))
            where = Range(*(Position(*end) for end in ends))
            whole = document.text if rng.random() < 0.2 else None
            text = rng.choice(["", "x", "\n", "x\ny\n"])
            if whole is None:
                document.change([ContentChange(text, where)], None)
            else:
                cut = rng.randrange(len(whole))
                document.change([ContentChange(whole[:cut] + text + whole[cut:])], None)
        now = follow(span, document.changes.since(0) or [])
        if now is not None:
            # A change right before the first line may still have joined it.
            assert document.lines(now.start, now.end).endswith(kept)
