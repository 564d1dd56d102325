"""Text to token ids and back, from a GGUF's own vocabulary, with exactly the ids llama.cpp gives.

Covers byte-level BPE, "gpt2" in GGUF's words. Knows nothing of prompts.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Self

import numpy as np
import numpy.typing as npt
import tokenizers
from gguf import TokenType
from tokenizers import Regex, models, pre_tokenizers

from engine.errors import ModelFormatError, RequestError, UnsupportedModelError
from engine.gguf.reader import GgufFile


@dataclass(frozen=True)
class PreTokenizer:
    """How text is cut into words before merging: each pattern cuts what the ones before left.

    With `keeps_whole_words` a word that is itself a token is not built from merges.
    """

    patterns: tuple[str, ...]
    keeps_whole_words: bool = False
    adds_bos: bool = False


_GPT2_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_CONTRACTIONS = r"'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]"
_LETTERS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_SYMBOLS_AND_SPACES = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"

_GPT2 = PreTokenizer((_GPT2_WORDS,))
_SINGLE_DIGITS = PreTokenizer((r"\p{N}", _GPT2_WORDS))
_QWEN2 = PreTokenizer((rf"{_CONTRACTIONS}|{_LETTERS}|\p{{N}}|{_SYMBOLS_AND_SPACES}",))
_LLAMA3 = PreTokenizer(
    (rf"{_CONTRACTIONS}|{_LETTERS}|\p{{N}}{{1,3}}|{_SYMBOLS_AND_SPACES}",),
    keeps_whole_words=True,
    adds_bos=True,
)

# By the name in `tokenizer.ggml.pre`; each is compared with llama.cpp by
# benchmarks/references/tokenizer_reference.py.
PRE_TOKENIZERS: Mapping[str, PreTokenizer] = {
    "command-r": _SINGLE_DIGITS,
    "deepseek-r1-qwen": _QWEN2,
    "gpt-2": _GPT2,
    "llama-bpe": _LLAMA3,
    "qwen2": _QWEN2,
    "refact": _SINGLE_DIGITS,
    "smollm": _SINGLE_DIGITS,
    "starcoder": _SINGLE_DIGITS,
}

# Names that can mean nothing but a control token, whatever type the file gives them: a document
# that contains one must not forge it.
_CONTROL_NAMES = (
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|eot_id|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
    "<fim_prefix>",
    "<fim_middle>",
    "<fim_suffix>",
    "<fim_pad>",
    "<repo_name>",
    "<reponame>",
    "<file_sep>",
)


class Tokenizer:
    """A model's vocabulary. Never changes, so any thread may use it.

    `special_tokens` are the control and the user-defined tokens by name. A control token stands
    for no text; a user-defined one is text that is always that one token, also in a document.
    `end_ids` are the tokens after which a completion cannot sensibly go on: the file's end tokens
    and every control token.
    """

    def __init__(
        self,
        bpe: tokenizers.Tokenizer,
        pieces: Sequence[bytes],
        control: Mapping[str, int],
        user_defined: Mapping[str, int],
        *,
        bos_id: int | None,
        eos_id: int | None,
        end_ids: Iterable[int],
        add_bos: bool,
    ) -> None:
        self._bpe, self._pieces = bpe, pieces
        # The longest is cut out first, as in llama.cpp.
        self._literals = sorted(user_defined.items(), key=lambda item: -len(item[0]))
        self.n_vocab = len(pieces)
        self.bos_id, self.eos_id, self.add_bos = bos_id, eos_id, add_bos
        self.end_ids = frozenset((*control.values(), *end_ids))
        self.special_tokens: Mapping[str, int] = {**control, **user_defined}

    @classmethod
    def from_gguf(cls, file: GgufFile) -> Self:
        """Build the tokenizer that the file describes.

        Raises UnsupportedModelError for tokenizers we lack, ModelFormatError for broken ones.
        """
        pre_tokenizer = _find_pre_tokenizer(file)
        tokens = file.require_list("tokenizer.ggml.tokens", str)
        kinds = _token_kinds(file, len(tokens))
        ids = {name: token for token, name in enumerate(tokens)}
        if len(ids) != len(tokens):
            raise ModelFormatError(
                file.path, f"{len(tokens)} tokens have {len(ids)} different texts, expected as many"
            )
        control_ids = {*_of_kind(kinds, TokenType.CONTROL)}
        control_ids |= {ids[name] for name in _CONTROL_NAMES if name in ids}
        user_ids = {*_of_kind(kinds, TokenType.USER_DEFINED)} - control_ids
        textless_ids = control_ids.union(
            _of_kind(kinds, TokenType.UNKNOWN), _of_kind(kinds, TokenType.UNUSED)
        )
        pieces = _decode_pieces(tokens)
        for token in textless_ids:
            pieces[token] = b""
        for token in user_ids:
            pieces[token] = tokens[token].encode()

        bos_id, eos_id, eot_id, eom_id = (
            _special_id(file, name, len(tokens)) for name in ("bos", "eos", "eot", "eom")
        )
        add_bos = file.optional("tokenizer.ggml.add_bos_token", bool)
        return cls(
            _build_bpe(file, ids, pre_tokenizer),
            pieces,
            {tokens[token]: token for token in sorted(control_ids)},
            {tokens[token]: token for token in sorted(user_ids)},
            bos_id=bos_id,
            eos_id=eos_id,
            end_ids=[token for token in (eos_id, eot_id, eom_id) if token is not None],
            add_bos=pre_tokenizer.adds_bos if add_bos is None else add_bos,
        )

    def encode(self, text: str) -> list[int]:
        """The ids of plain text. The name of a control token in it is text like any other.

        Lone surrogates, which no UTF-8 text can hold, count as U+FFFD; bytes that the vocabulary
        lacks are dropped.
        """
        ids: list[int] = []
        for part in self._cut_out_literals(_without_lone_surrogates(text)):
            if isinstance(part, int):
                ids.append(part)
            else:
                encoded = self._bpe.encode(part, add_special_tokens=False).ids
                ids += [token for token in encoded if token < self.n_vocab]
        return ids

    def encode_special(self, name: str) -> int:
        """The id of a special token. Raises RequestError if there is none of that name."""
        token = self.special_tokens.get(name)
        if token is None:
            raise RequestError(
                f"the model has no special token '{name}'; "
                f"it has: {', '.join(self.special_tokens) or 'none'}"
            )
        return token

    def token_bytes(self, token: int) -> bytes:
        """The text a token stands for, which may be part of a character; b"" if it is none."""
        return self._pieces[token]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of tokens, with U+FFFD for what is not UTF-8."""
        return b"".join(self._pieces[token] for token in ids).decode(errors="replace")

    def prepare(self) -> None:
        """Sorts the tokens' texts, unless that was done: it takes a tenth of a second, and is
        needed when a text is continued within a word."""
        _ = self._sorted_pieces

    def ids_starting_with(self, prefix: bytes) -> npt.NDArray[np.int64]:
        """The ids, ascending, of the tokens whose text is `prefix` or goes on after it."""
        pieces, order = self._sorted_pieces
        start = bisect_left(pieces, prefix or b"\0")  # past the tokens without text
        following = _following(prefix)
        end = len(pieces) if following is None else bisect_left(pieces, following, lo=start)
        return np.sort(order[start:end])

    def ids_that_prefix(self, text: bytes) -> npt.NDArray[np.int64]:
        """The ids, ascending, of the tokens whose text `text` begins with and goes on after."""
        pieces, order = self._sorted_pieces
        found: list[npt.NDArray[np.int64]] = [order[:0]]
        for n_bytes in range(1, len(text)):
            start = bisect_left(pieces, text[:n_bytes])
            end = bisect_left(pieces, text[:n_bytes] + b"\0", lo=start)
            found.append(order[start:end])
        return np.sort(np.concatenate(found))

    @cached_property
    def _sorted_pieces(self) -> tuple[list[bytes], npt.NDArray[np.int64]]:
        """All tokens' texts in order, and the id of each."""
        order = sorted(range(self.n_vocab), key=self._pieces.__getitem__)
        return [self._pieces[token] for token in order], np.array(order, np.int64)

    def _cut_out_literals(self, text: str) -> list[str | int]:
        """The text as pieces to encode and user-defined tokens' ids."""
        parts: list[str | int] = [text]
        for literal, token in self._literals:
            if literal in text:
                parts = [piece for part in parts for piece in _cut_out(part, literal, token)]
        return parts


def _cut_out(part: str | int, literal: str, token: int) -> list[str | int]:
    if isinstance(part, int):
        return [part]
    between: list[str | int] = []
    for text in part.split(literal):
        between += (text, token)
    return between[:-1]


def _find_pre_tokenizer(file: GgufFile) -> PreTokenizer:
    model = file.require("tokenizer.ggml.model", str)
    if model != "gpt2":
        raise UnsupportedModelError("tokenizer model", model, ("gpt2",))
    name = file.optional("tokenizer.ggml.pre", str) or "default"
    if name not in PRE_TOKENIZERS:
        raise UnsupportedModelError("pre-tokenizer", name, tuple(PRE_TOKENIZERS))
    return PRE_TOKENIZERS[name]


def _token_kinds(file: GgufFile, n_vocab: int) -> npt.NDArray[np.int64]:
    kinds = file.optional_list("tokenizer.ggml.token_type", int)
    if kinds is None:
        return np.full(n_vocab, TokenType.NORMAL, np.int64)
    if len(kinds) != n_vocab:
        raise ModelFormatError(
            file.path, f"tokenizer.ggml.token_type has {len(kinds)} entries, expected {n_vocab}"
        )
    return np.array(kinds)


def _of_kind(kinds: npt.NDArray[np.int64], kind: TokenType) -> list[int]:
    return np.flatnonzero(kinds == kind).tolist()


def _special_id(file: GgufFile, name: str, n_vocab: int) -> int | None:
    key = f"tokenizer.ggml.{name}_token_id"
    token = file.optional(key, int)
    if token is not None and not 0 <= token < n_vocab:
        raise ModelFormatError(file.path, f"{key} is {token}, expected less than {n_vocab}")
    return token


def _build_bpe(
    file: GgufFile, ids: dict[str, int], pre_tokenizer: PreTokenizer
) -> tokenizers.Tokenizer:
    merges: list[tuple[str, str]] = []
    for merge in file.require_list("tokenizer.ggml.merges", str):
        left, _, right = merge.partition(" ")
        merges.append((left, right))
    try:
        bpe = models.BPE(
            ids | _missing_bytes(ids), merges, ignore_merges=pre_tokenizer.keeps_whole_words
        )
    except Exception as error:  # the library knows no narrower type
        raise ModelFormatError(file.path, f"its merges do not fit its tokens: {error}") from error
    tokenizer = tokenizers.Tokenizer(bpe)
    words = [pre_tokenizers.Split(Regex(text), "isolated") for text in pre_tokenizer.patterns]
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*words, to_bytes])
    return tokenizer


def _missing_bytes(ids: Mapping[str, int]) -> dict[str, int]:
    """Ids past the end for bytes that the vocabulary lacks, for `encode` to drop.

    The library would drop such a byte before merging, which would bring its neighbours together.
    """
    characters = (chr(code) for code in np.flatnonzero(_bytes_by_character() >= 0).tolist())
    missing = [character for character in characters if character not in ids]
    return {character: len(ids) + n for n, character in enumerate(missing)}


def _decode_pieces(tokens: Sequence[str]) -> list[bytes]:
    """The bytes of each token, which a GGUF spells in GPT-2's printable characters.

    A token with any other character is text as it stands.
    """
    byte_of = _bytes_by_character()
    codes = np.frombuffer("".join(tokens).encode("utf-32-le"), np.uint32)
    values = byte_of[np.minimum(codes, len(byte_of) - 1)]
    ends = list(accumulate(map(len, tokens), initial=0))
    content = values.astype(np.uint8).tobytes()
    pieces = [content[start:end] for start, end in pairwise(ends)]
    odd_tokens: list[int] = (
        np.searchsorted(ends, np.flatnonzero(values < 0), "right") - 1
    ).tolist()
    for token in odd_tokens:
        pieces[token] = tokens[token].encode()
    return pieces


def _bytes_by_character() -> npt.NDArray[np.int16]:
    """The byte that each character spells, -1 for none. A printable Latin-1 character is its own
    byte; the other bytes, in order, are the characters from 256 up."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    byte_of = np.full(256 + len(others) + 1, -1, np.int16)
    byte_of[printable] = printable
    byte_of[256:-1] = others
    return byte_of


def _following(prefix: bytes) -> bytes | None:
    """The first bytes in order that come after everything that starts with `prefix`."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else None


def _without_lone_surrogates(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
