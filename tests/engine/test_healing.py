"""What healing takes out of a prompt: the last token, and the rest of its word."""

import pytest

from engine.healing import MOST_TOKENS, heal


class Pieces:
    """A tokenizer whose ids index its pieces."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces

    def token_bytes(self, id: int) -> bytes:
        return self.pieces[id]


@pytest.mark.parametrize(
    ("pieces", "kept", "taken"),
    [
        ([b"def", b" f", b"(x", b"):\n"], 3, b"):\n"),
        ([b"x", b"    "], 1, b"    "),
        ([b"self", b".get", b"_us"], 1, b".get_us"),
        ([b"a", b" ret", b"u"], 1, b" retu"),
        ([b"a", b"("], 1, b"("),
        ([b"x"], 0, b"x"),
        ([], 0, b""),
        ([b"x", b""], 2, b""),  # a control token is no text
        ([b"a ", b"n\xc3", b"\xa9"], 1, b"n\xc3\xa9"),
    ],
)
def test_the_last_word_is_taken(pieces: list[bytes], kept: int, taken: bytes) -> None:
    ids, found = heal(Pieces(pieces), list(range(len(pieces))))  # type: ignore[arg-type]
    assert (len(ids), found) == (kept, taken)


def test_a_long_word_is_taken_in_part() -> None:
    pieces = [b"a"] * 20
    ids, taken = heal(Pieces(pieces), list(range(20)))  # type: ignore[arg-type]
    assert (len(ids), taken) == (20 - MOST_TOKENS, b"a" * MOST_TOKENS)
