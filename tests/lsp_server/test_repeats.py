import pytest

from lsp_server.diffs import line_edits, split_lines
from lsp_server.documents import Document, PositionEncoding
from lsp_server.next_edit import repeated_edit
from lsp_server.protocol import ContentChange, Position, Range


def edited(text: str, *texts: str, language: str = "python") -> Document:
    """A document that went through these texts, run of lines by run of lines."""
    document = Document("file:///a", language, 0, text, PositionEncoding.UTF16)
    for new in texts:
        n_more = 0
        for edit in line_edits(split_lines(document.text), split_lines(new)):
            where = Range(Position(edit.start + n_more, 0), Position(edit.end + n_more, 0))
            document.change([ContentChange(edit.new, where)], None)
            n_more += len(split_lines(edit.new)) - (edit.end - edit.start)
    return document


def offered(document: Document) -> str | None:
    found = repeated_edit(document, "a")
    if found is None:
        return None
    assert found.edit.end == found.edit.start + 1
    return f"{found.edit.start}: {found.edit.new}"


FUNCTION = """def f(count):
    total = 0
    for step in range(count):
        total += step  # total
    return "total", total


def g(total, count):
    return total
"""


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("    total = 0", "    result = 0", "3:         result += step  # total\n"),
        ("def f(count)", "def f(limit)", "2:     for step in range(limit):\n"),
        ("for step in", "for number in", "3:         total += number  # total\n"),
        ("    total = 0", "    total = 1", None),
        ("    total = 0", "    f = 0", None),  # too short, and there is one already
        ("    total = 0", "    count = 0", None),
        ("total += step", "result += step", None),  # a use, not the definition
        ('"total", total', '"total", result', None),
        ("def g(total", "def g(amount", "8:     return amount\n"),
    ],
)
def test_a_name_is_changed_where_it_is_used_once_its_definition_is(
    old: str, new: str, expected: str | None
) -> None:
    assert offered(edited(FUNCTION, FUNCTION.replace(old, new, 1))) == expected


def test_a_rename_goes_on_until_nothing_is_left() -> None:
    text = "def area(a):\n    return a\n\n\nx = area(1)\ny = area(2) + area(3)\n"
    document = edited(text, text.replace("def area", "def surface"))
    for _ in range(3):
        found = repeated_edit(document, "a")
        if found is None:
            break
        where = Range(Position(found.edit.start, 0), Position(found.edit.end, 0))
        document.change([ContentChange(found.edit.new, where)], None)
    assert document.text == text.replace("area", "surface")
    assert repeated_edit(document, "a") is None


def test_a_method_may_be_anyones() -> None:
    text = "class A:\n    def close(self):\n        pass\n\n\nfile.close()\n"
    assert offered(edited(text, text.replace("def close", "def end"))) is None


def test_a_keyword_argument_is_no_definition() -> None:
    text = "f(size=1)\nsize = 2\nprint(size)\n"
    assert offered(edited(text, text.replace("f(size", "f(width"))) is None


def test_attributes_and_strings_are_not_renamed() -> None:
    text = 'size = 2\nprint("size", size)\n'
    assert offered(edited(text, text.replace("size =", "width ="))) == '1: print("size", width)\n'


CALLS = """a = get(first)
b = get(second)
c = other(first)
d = get(third)
e = "get(fourth)"
"""


def test_what_was_done_twice_is_done_again() -> None:
    once = CALLS.replace("get(first)", "fetch(first)")
    assert offered(edited(CALLS, once)) is None
    twice = once.replace("get(second)", "fetch(second)")
    assert offered(edited(CALLS, once, twice)) == "3: d = fetch(third)\n"
    thrice = twice.replace("get(third)", "fetch(third)")
    assert offered(edited(CALLS, once, twice, thrice)) is None  # what is left is a string


def test_blanks_are_those_of_the_place() -> None:
    text = "x.Dict[a]\n[x.Dict[b]]\n  [ x.Dict[c]]\n"
    once = text.replace("x.Dict[a", "dict[a")
    assert offered(edited(text, once, once.replace("x.Dict[b", "dict[b"))) == "2:   [ dict[c]]\n"


def test_lines_that_were_passed_over_mean_that_not_every_line_is_meant() -> None:
    text = "a = get(1)\nb = get(2)\nc = get(3)\nd = get(4)\n"
    once = text.replace("get(1", "fetch(1")
    assert offered(edited(text, once, once.replace("get(3", "fetch(3"))) is None


def test_a_local_change_stays_in_its_definition() -> None:
    text = "def f(cmd):\n    a(cmd)\n    b(cmd)\n\n\ndef g(cmd):\n    c(cmd)\n"
    once = text.replace("a(cmd", "a(other")
    assert offered(edited(text, once, once.replace("b(cmd", "b(other"))) is None


def test_lines_written_anew_and_comments_are_not_repeated() -> None:
    text = "rv.close()\nrv.close()\nrv.close()\n"
    once = text.replace("rv.close()", "assert rv.status == 200", 1)
    twice = once.replace("rv.close()", "assert rv.status == 200", 1)
    assert offered(edited(text, once, twice)) is None
    text = "f(a, b)\nf(a, b)\nf(a, b)\n"
    once = text.replace("b)\n", "b)  # no check\n", 1)
    twice = once.replace("b)\n", "b)  # no check\n", 1)
    assert offered(edited(text, once, twice)) is None


def test_lines_keep_their_ends() -> None:
    text = "size = 2\r\nprint(size)\r\n"
    assert offered(edited(text, text.replace("size =", "width ="))) == "1: print(width)\r\n"


@pytest.mark.parametrize(
    ("language", "text", "old", "new", "expected"),
    [
        ("go", "func f(size int) int {\n\treturn size\n}\n", "size int", "width int", "width"),
        ("go", "func f() int {\n\tsize := 1\n\treturn size\n}\n", "size :=", "width :=", "width"),
        ("rust", "fn f() {\n    let size = 1;\n    g(size);\n}\n", "t size", "t width", "width"),
        ("typescript", "const size = 1;\nf(size);\n", "t size", "t width", "width"),
        ("typescript", "const size = 1;\nf({ size: 2 });\n", "{ size:", "{ width:", None),
    ],
)
def test_definitions_of_other_languages(
    language: str, text: str, old: str, new: str, expected: str | None
) -> None:
    found = offered(edited(text, text.replace(old, new), language=language))
    assert found is None if expected is None else found is not None and expected in found
