import pytest

from lsp_server.prompt.repetition import loop_unit, repeated_lines


@pytest.mark.parametrize(
    ("above", "written", "n_repeated"),
    [
        (["call(a)"], ["call(a)"], 1),
        (["call(a)"], ["call(b)"], 0),
        ([], ["first()", "second()", "first()", "second()"], 2),
        (["first()", "second()"], ["first()"], 0),
        (["first()", "second()"], ["first()", "second()"], 2),
        (["}"], ["}"], 0),  # closing brackets do repeat
        ([], ["},", "},", "},"], 0),
        ([], ["KEY_1 = 1", "KEY_2 = 2", "KEY_3 = 3"], 1),  # counting is not completing
        (["KEY_1 = 1", "KEY_2 = 2"], ["KEY_3 = 3"], 0),
    ],
)
def test_lines_said_again_are_counted(
    above: list[str], written: list[str], n_repeated: int
) -> None:
    assert repeated_lines(above, written) == n_repeated


@pytest.mark.parametrize(
    ("line", "n_unit"),
    [
        ("a_name, a_name, a_name, ", 8),
        ("-" * 60, 0),  # a ruler
        ("0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ", 0),  # a table of numbers
        ("a_name, b_name, c_name, ", 0),
        ("short", 0),
    ],
)
def test_a_loop_within_a_line_is_measured(line: str, n_unit: int) -> None:
    assert loop_unit(line) == n_unit
