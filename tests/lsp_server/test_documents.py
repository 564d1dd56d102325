import random
import re
import time
from collections.abc import Sequence

import pytest

from lsp_server.documents import (
    Document,
    DocumentStore,
    OutsideTextError,
    Place,
    PositionEncoding,
    UnknownDocumentError,
    choose_encoding,
)
from lsp_server.protocol import ContentChange, Position, Range

URI = "file:///a.py"
UTF8, UTF16, UTF32 = PositionEncoding.UTF8, PositionEncoding.UTF16, PositionEncoding.UTF32


def document(text: str, encoding: PositionEncoding = UTF16) -> Document:
    return Document(URI, "python", 1, text, encoding)


def edit(start: tuple[int, int], end: tuple[int, int], text: str) -> ContentChange:
    return ContentChange(text=text, range=Range(Position(*start), Position(*end)))


class NaiveDocument:
    """The specification read literally: one string, counted character by character."""

    UNIT_BYTES = {UTF8: 1, UTF16: 2, UTF32: 4}

    def __init__(self, text: str, encoding: PositionEncoding) -> None:
        self.text, self.encoding = text, encoding

    def lines(self) -> list[str]:
        return re.split(r"\r\n|\r|\n", self.text)

    def n_units(self, text: str) -> int:
        name = self.encoding if self.encoding is UTF8 else f"{self.encoding}-le"
        return len(text.encode(name)) // self.UNIT_BYTES[self.encoding]

    def offset(self, line: int, character: int) -> int:
        starts = [0, *(match.end() for match in re.finditer(r"\r\n|\r|\n", self.text))]
        if line >= len(starts):
            return len(self.text)
        n_units, at = 0, starts[line]
        while at < len(self.text) and self.text[at] not in "\r\n":
            n_units += self.n_units(self.text[at])
            if n_units > character:
                break
            at += 1
        return at

    def replace(self, start: tuple[int, int], end: tuple[int, int], text: str) -> None:
        first, last = sorted((self.offset(*start), self.offset(*end)))
        self.text = self.text[:first] + text + self.text[last:]


ALPHABET = [
    "a",
    "b",
    " ",
    "\n",
    "\r",
    "\r\n",
    "\u2028",
    "\u0085",
    "\x0c",
    "é",
    "e\u0301",
    "😀",
    "漢",
]


def random_text(rng: random.Random, max_pieces: int) -> str:
    return "".join(rng.choice(ALPHABET) for _ in range(rng.randrange(max_pieces + 1)))


@pytest.mark.parametrize("encoding", list(PositionEncoding))
@pytest.mark.parametrize("seed", range(4))
def test_random_edits_give_what_the_naive_reading_gives(
    encoding: PositionEncoding, seed: int
) -> None:
    rng = random.Random(f"{encoding}{seed}")
    for _ in range(170):
        naive = NaiveDocument(random_text(rng, 40), encoding)
        ours = document(naive.text, encoding)
        for version in range(2, 14):
            start, end = [(rng.randrange(12), rng.randrange(14)) for _ in range(2)]
            text = random_text(rng, 5)
            naive.replace(start, end, text)
            ours.change([edit(start, end, text)], version)
            assert ours.text == naive.text
            assert [ours.line(i) for i in range(ours.n_lines)] == naive.lines()
            probe = (rng.randrange(12), rng.randrange(14))
            place = ours.place(Position(*probe))
            window = ours.window(place, len(ours.text), len(ours.text))
            assert len(window.before) == naive.offset(*probe)
            assert window.before + window.after == naive.text
            assert ours.place(ours.position(place)) == place


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", [""]),
        ("a", ["a"]),
        ("a\n", ["a", ""]),
        ("a\r\nb\rc\nd", ["a", "b", "c", "d"]),
        ("\r\r\n\n", ["", "", "", ""]),
        ("a\x0cb\u2028c\u0085d\x1ce", ["a\x0cb\u2028c\u0085d\x1ce"]),
    ],
)
def test_lines_end_at_lf_crlf_and_cr_only(text: str, lines: Sequence[str]) -> None:
    opened = document(text)
    assert [opened.line(i) for i in range(opened.n_lines)] == lines
    assert opened.text == text


@pytest.mark.parametrize(
    ("encoding", "character", "column"),
    [
        (UTF16, 0, 0),
        (UTF16, 1, 1),
        (UTF16, 2, 1),  # inside the emoji
        (UTF16, 3, 2),
        (UTF16, 5, 4),
        (UTF16, 99, 4),
        (UTF8, 1, 1),
        (UTF8, 2, 1),  # inside the emoji
        (UTF8, 4, 1),
        (UTF8, 5, 2),
        (UTF8, 6, 2),  # inside the é
        (UTF8, 7, 3),
        (UTF8, 99, 4),
        (UTF32, 2, 2),
        (UTF32, 99, 4),
    ],
)
def test_characters_are_counted_in_the_negotiated_encoding(
    encoding: PositionEncoding, character: int, column: int
) -> None:
    assert document("x\na😀éb\ny", encoding).place(Position(1, character)) == Place(1, column)


def test_a_position_past_the_last_line_is_the_end_of_the_text() -> None:
    assert document("ab\ncd").place(Position(2**31 - 1, 0)) == Place(1, 2)


def test_a_line_that_must_exist_is_missed_by_name() -> None:
    opened = document("ab\ncd")
    assert opened.place_inside(Position(1, 99)) == Place(1, 2)
    with pytest.raises(OutsideTextError, match="line 2 .* 0 to 1"):
        opened.place_inside(Position(2, 0))


def test_a_range_with_its_ends_exchanged_names_the_same_text() -> None:
    opened = document("abc\ndef")
    opened.change([edit((1, 1), (0, 1), "-")], 2)
    assert opened.text == "a-ef"


def test_an_inserted_line_feed_joins_the_carriage_return_before_it() -> None:
    opened = document("a\rb")
    opened.change([edit((1, 0), (1, 0), "\n")], 2)
    assert [opened.line(i) for i in range(opened.n_lines)] == ["a", "b"]
    assert opened.text == "a\r\nb"


def test_later_changes_of_one_message_see_the_earlier_ones() -> None:
    opened = document("a")
    opened.change([edit((0, 1), (0, 1), "\nb"), edit((1, 1), (1, 1), "c")], 7)
    assert (opened.text, opened.version) == ("a\nbc", 7)


def test_a_change_without_a_range_replaces_everything() -> None:
    opened = document("a\nb")
    opened.change([ContentChange(text="new\n")], None)
    assert (opened.text, opened.version) == ("new\n", 2)


def test_a_window_takes_only_what_was_asked_for() -> None:
    opened = document("".join(f"line {i}\n" for i in range(1000)))
    window = opened.window(Place(500, 4), 13, 9)
    assert (window.before, window.after) == ("line 499\nline", " 500\nline")
    assert opened.window(Place(0, 0), 5, 0).before == ""
    assert opened.window(Place(0, 4), 0, 0) == opened.window(Place(1, 0), 0, 0)


def test_the_store_names_the_document_that_is_not_open() -> None:
    store = DocumentStore()
    for use in (lambda: store[URI], lambda: store.close(URI), lambda: store.change(URI, [], 1)):
        with pytest.raises(UnknownDocumentError, match="didOpen"):
            use()


def test_the_store_opens_changes_and_closes() -> None:
    store = DocumentStore()
    store.open("untitled:Untitled-1", "python", 1, "x = ")
    store.change("untitled:Untitled-1", [edit((0, 4), (0, 4), "1")], 2)
    assert store["untitled:Untitled-1"].text == "x = 1"
    store.close("untitled:Untitled-1")
    assert len(store) == 0


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (None, UTF16),
        ([], UTF16),
        (["utf-7"], UTF16),
        (["utf-8", "utf-16"], UTF8),
        (["utf-7", "utf-32", "utf-8"], UTF32),
    ],
)
def test_the_client_orders_the_encodings(
    offered: list[str] | None, chosen: PositionEncoding
) -> None:
    assert choose_encoding(offered) is chosen


def test_a_character_typed_into_a_mebibyte_costs_less_than_a_millisecond() -> None:
    opened = document("x = 'some line of code'  # 漢\n" * (2**20 // 30))
    change = [edit((20_000, 5), (20_000, 5), "y")]
    times = []
    for version in range(2, 52):
        began = time.perf_counter()
        opened.change(change, version)
        times.append(time.perf_counter() - began)
    assert sorted(times)[len(times) // 2] < 1e-3
