from lsp_server.diffs import LineEdit, line_edits, split_lines


def test_only_lines_that_differ_are_replaced() -> None:
    old, new = split_lines("a\nb\nc\nd\n"), split_lines("a\nB\nc\nd\ne\n")
    assert line_edits(old, new) == [LineEdit(1, 2, "B\n"), LineEdit(4, 4, "e\n")]
    assert line_edits(old, old) == []


def test_lines_end_as_the_protocol_says() -> None:
    assert split_lines("a\r\nb\rc\x0cd\u2028e\n") == ["a\r\n", "b\r", "c\x0cd\u2028e\n"]
    assert split_lines("") == []
