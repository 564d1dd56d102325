import random

from lsp_server.documents import Document, PositionEncoding
from lsp_server.edit_history import EditHistory, RecentEdit
from lsp_server.protocol import ContentChange, Position, Range


def opened(text: str) -> Document:
    return Document("u", "", 0, text, PositionEncoding.UTF16)


def put(document: Document, line: int, character: int, text: str, n_chars: int = 0) -> None:
    where = Range(Position(line, character), Position(line, character + n_chars))
    document.change([ContentChange(text, where)], None)


def test_keys_in_one_line_are_one_edit() -> None:
    document = opened("a = 1\nb = 2\n")
    for n, char in enumerate("00"):
        put(document, 1, 5 + n, char)
    assert document.edits.edits == [RecentEdit(1, ("b = 2\n",), ("b = 200\n",))]


def test_edits_of_other_lines_stay_apart_and_move() -> None:
    document = opened("a\nb\nc\nd\n")
    put(document, 3, 1, "!")
    put(document, 0, 0, "x\ny\n")
    assert [(e.start, e.old, e.new) for e in document.edits.edits] == [
        (5, ("d\n",), ("d!\n",)),
        (0, (), ("x\n", "y\n")),
    ]


def test_what_was_taken_back_is_no_edit() -> None:
    document = opened("a\nb\n")
    put(document, 0, 1, "x")
    put(document, 0, 1, "", 1)
    assert document.edits.edits == []


def test_a_new_text_is_an_edit_of_what_differs() -> None:
    document = opened("a\nb\nc\n")
    document.change([ContentChange("a\nB\nc\n")], None)
    assert document.edits.edits == [RecentEdit(1, ("b\n",), ("B\n",))]


def test_a_paste_says_nothing_and_the_oldest_edits_are_forgotten() -> None:
    history = EditHistory()
    history.record(0, ["a\n"], ["b\n"] * 100)
    assert history.edits == []
    for n in range(100):
        history.record(2 * n, ["a\n"], ["b\n"])
    assert len(history.edits) < 20
    assert history.edits[-1].start == 198


def test_edits_are_where_they_say_and_undone_give_the_text_before() -> None:
    rng = random.Random(2)
    for _ in range(500):
        before = [f"{n}\n" for n in range(8)] + [""]
        document = opened("".join(before))
        for _ in range(rng.randrange(1, 6)):
            ends = sorted((rng.randrange(8), rng.randrange(2)) for _ in range(2))
            where = Range(*(Position(*end) for end in ends))
            text = rng.choice(["", "x", "\n", "x\ny\n"])
            document.change([ContentChange(text, where)], None)
        now = [document.lines(n, n + 1) for n in range(document.n_lines)]
        for edit in sorted(document.edits.edits, key=lambda e: (-e.start, -len(e.new))):
            assert tuple(now[edit.start : edit.end]) == edit.new
            now[edit.start : edit.end] = edit.old
        assert "".join(now) == "".join(before)
