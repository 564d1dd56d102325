"""Token healing: the cursor seldom sits on a token boundary, so the last token is decided anew.

A prefix that ends inside a word or in indentation tokenizes in a way the model never saw while it
was trained. Those last tokens are taken out of the prompt, and what is generated must begin with
their text.
"""

from engine.tokenizer import Tokenizer

MOST_TOKENS = 4
MOST_BYTES = 32


def heal(tokenizer: Tokenizer, ids: list[int]) -> tuple[list[int], bytes]:
    """Splits a tokenized text into the ids to keep and the bytes that must be generated again.

    Takes the last token, and those before it as long as they belong to the same word.
    """
    kept = list(ids)
    taken = b""
    while kept and len(ids) - len(kept) < MOST_TOKENS and len(taken) < MOST_BYTES:
        piece = tokenizer.token_bytes(kept[-1])
        if not piece or (taken and not _continues_word(piece, taken)):
            break
        kept.pop()
        taken = piece + taken
        if not _is_word_byte(taken[0]):
            break
    return kept, taken


def _continues_word(piece: bytes, following: bytes) -> bool:
    return _is_word_byte(piece[-1]) and _is_word_byte(following[0])


def _is_word_byte(byte: int) -> bool:
    """Letters, digits, underscore, and all bytes of non-ASCII characters."""
    return byte >= 0x80 or byte == 0x5F or chr(byte).isalnum()
