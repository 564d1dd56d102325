"""Loops: a small model that has nothing more to say says the same again."""

import re

_MAX_PERIOD_LINES = 6
_MAX_COUNTED_LINES = 2
_MIN_UNIT_CHARS = 8
_MAX_UNIT_CHARS = 60
_MIN_UNIT_REPEATS = 3


def repeated_lines(above: list[str], written: list[str]) -> int:
    """Count the lines at the end of `written` that say again what the lines before them said.

    Both hold stripped lines that are not blank. A single line counts when it equals the one just
    above it, a longer run when at least two of its lines were written.
    """
    lines = above + written
    for period in range(1, _MAX_PERIOD_LINES + 1):
        latest, earlier = lines[-period:], lines[-2 * period : -period]
        if latest != earlier or len(written) < min(period, 2):
            continue
        if sum(char.isalnum() for line in latest for char in line) >= 3 * period:
            return min(period, len(written))
    return 1 if _is_counting(written) else 0


def _is_counting(written: list[str]) -> bool:
    """Tell whether the last lines differ in their numbers only, as `case 1:`, `case 2:` do."""
    latest = [re.sub(r"\d+", "0", line) for line in written[-_MAX_COUNTED_LINES - 1 :]]
    return len(latest) > _MAX_COUNTED_LINES and len(set(latest)) == 1 and len(latest[0]) > 2


def loop_unit(line: str) -> int:
    """Measure the unit that `line` ends with three times in a row; 0 if there is none."""
    if len(line) < _MIN_UNIT_CHARS * _MIN_UNIT_REPEATS:
        return 0
    for n_chars in range(_MIN_UNIT_CHARS, min(_MAX_UNIT_CHARS, len(line) // 3) + 1):
        unit = line[-n_chars:]
        if line[-2 * n_chars : -n_chars] == unit == line[-3 * n_chars : -2 * n_chars] and any(
            char.isalpha() for char in unit
        ):
            return n_chars
    return 0
