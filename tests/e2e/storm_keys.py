"""What is typed in a storm: thirty keys a second, as on a keyboard that is leaned on."""

import itertools

KEYS_PER_S = 30
_LINE = "value = compute(item, other) + offset_of(value)\n"


def storm_text(seconds: float) -> str:
    """The text that so many seconds of storm leave behind."""
    return "".join(itertools.islice(itertools.cycle(_LINE), int(KEYS_PER_S * seconds)))
