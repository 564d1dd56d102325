"""Token ids against llama.cpp's committed ones, and the vocabulary's own rules on a tiny file."""

from pathlib import Path
from typing import Any, cast

import gguf
import numpy as np
import pytest

from engine.errors import EngineError, ModelFormatError, RequestError, UnsupportedModelError
from engine.gguf.reader import GgufFile
from engine.tokenizer import Tokenizer
from tests.models import require_model
from tests.tiny_gguf import byte_characters, tiny_vocabulary
from tests.tokenizer_reference import TokenizerReference

MODELS = ("smollm2-135m", "qwen2.5-coder-0.5b")
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED = 1, 2, 3, 4, 5
TINY = tiny_vocabulary()


def write(path: Path, **changes: Any) -> Path:
    """A GGUF with the tiny vocabulary and no tensors; `changes` replace values, None drops one."""
    values: dict[str, Any] = {
        "model": "gpt2",
        "pre": "qwen2",
        "tokens": list(TINY.tokens),
        "token_type": list(TINY.token_types),
        "merges": list(TINY.merges),
        "bos_token_id": TINY.id_of("<|endoftext|>"),
        "eos_token_id": TINY.id_of("<|im_end|>"),
        **changes,
    }
    writer = gguf.GGUFWriter(path, "llama")
    for name, value in values.items():
        key = f"tokenizer.ggml.{name}"
        match value:
            case bool():
                writer.add_bool(key, value)
            case int():
                writer.add_uint32(key, value)
            case str():
                writer.add_string(key, value)
            case list():
                writer.add_array(key, cast(list[Any], value))
            case _:
                assert value is None
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


def build(folder: Path, **changes: Any) -> Tokenizer:
    with GgufFile(write(folder / "vocabulary.gguf", **changes)) as file:
        return Tokenizer.from_gguf(file)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return build(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module", params=MODELS)
def real(request: pytest.FixtureRequest) -> tuple[Tokenizer, list[tuple[str, list[int]]]]:
    """A published vocabulary, and texts with the ids that llama.cpp gives them."""
    with GgufFile(require_model(request.param)) as file:
        tokenizer = Tokenizer.from_gguf(file)
    reference = TokenizerReference.load()
    return tokenizer, list(zip(reference.texts, reference.ids[request.param], strict=True))


@pytest.mark.model
def test_ids_are_those_of_llama_cpp(real: tuple[Tokenizer, list[tuple[str, list[int]]]]) -> None:
    tokenizer, cases = real
    differences = [
        (text, tokenizer.encode(text), ids) for text, ids in cases if tokenizer.encode(text) != ids
    ]
    assert len(cases) > 900
    assert not differences


@pytest.mark.model
def test_decoding_gives_the_text_back(
    real: tuple[Tokenizer, list[tuple[str, list[int]]]],
) -> None:
    tokenizer, cases = real
    known = {tokenizer.token_bytes(token) for token in range(tokenizer.n_vocab)}
    whole = [(text, ids) for text, ids in cases if all(bytes([b]) in known for b in text.encode())]
    assert len(whole) > 800  # SmolLM2's vocabulary lacks some bytes
    assert [text for text, ids in whole if tokenizer.decode(ids) != text] == []


TEXTS = (
    "",
    "def add(a, b):\n    return a + b\n",
    "größe = '漢字' # 😀 e\u0301\r\n\t",
    "   \u3000 \u00a0  x",
    "".join(map(chr, range(1, 0x250))),
)


@pytest.mark.parametrize("pre", ["qwen2", "smollm", "gpt-2", "llama-bpe"])
@pytest.mark.parametrize("text", TEXTS)
def test_every_text_survives_encoding(tmp_path: Path, pre: str, text: str) -> None:
    tokenizer = build(tmp_path, pre=pre)
    assert tokenizer.decode(tokenizer.encode(text)) == text


def spelled(tokenizer: Tokenizer, text: str) -> list[str]:
    return [tokenizer.token_bytes(token).decode() for token in tokenizer.encode(text)]


def test_merges_build_words_and_words_never_merge_with_their_neighbours(tiny: Tokenizer) -> None:
    assert spelled(tiny, " return") == [" return"]
    assert spelled(tiny, "x return") == ["x", " return"]
    assert spelled(tiny, "    return") == ["   ", " return"]
    assert spelled(tiny, "12") == ["1", "2"]


def test_the_name_of_a_control_token_in_a_text_stays_text(tiny: Tokenizer) -> None:
    for name in ("<|im_end|>", "<|fim_prefix|>", "<|endoftext|>"):
        ids = tiny.encode(f"a{name}b")
        assert not set(ids) & tiny.end_ids
        assert tiny.decode(ids) == f"a{name}b"
        assert tiny.encode_special(name) == TINY.id_of(name)
        assert tiny.token_bytes(TINY.id_of(name)) == b""


def test_a_control_name_is_control_whatever_type_the_file_gives_it(tmp_path: Path) -> None:
    kinds = [USER_DEFINED if kind == CONTROL else kind for kind in TINY.token_types]
    tokenizer = build(tmp_path, token_type=kinds)
    fim = TINY.id_of("<|fim_prefix|>")
    assert fim not in tokenizer.encode("<|fim_prefix|>")
    assert tokenizer.token_bytes(fim) == b""
    assert fim in tokenizer.end_ids


def test_a_user_defined_token_is_always_one_token(tiny: Tokenizer) -> None:
    token = TINY.id_of("<tool_call>")
    assert tiny.encode("<tool_call>") == [token]
    assert tiny.encode("a<tool_call><tool_call>b") == [ord_id("a"), token, token, ord_id("b")]
    assert tiny.token_bytes(token) == b"<tool_call>"
    assert token not in tiny.end_ids
    assert tiny.special_tokens["<tool_call>"] == token


def ord_id(character: str) -> int:
    return TINY.id_of(byte_characters()[ord(character)])


def test_of_overlapping_user_defined_tokens_the_longest_is_cut_out_first(tmp_path: Path) -> None:
    tokens = [*TINY.tokens, "[ab", "b]cd"]
    kinds = [*TINY.token_types, USER_DEFINED, USER_DEFINED]
    tokenizer = build(tmp_path, tokens=tokens, token_type=kinds)
    assert tokenizer.encode("[ab]cd") == [ord_id("["), ord_id("a"), len(tokens) - 1]


def test_only_text_has_bytes(tmp_path: Path) -> None:
    tokens = [*TINY.tokens, "<unk>", "[unused]", "<|other|>"]
    kinds = [*TINY.token_types, UNKNOWN, UNUSED, CONTROL]
    tokenizer = build(tmp_path, tokens=tokens, token_type=kinds)
    assert [tokenizer.token_bytes(len(TINY.tokens) + n) for n in range(3)] == [b"", b"", b""]
    assert [tokenizer.token_bytes(token) for token in range(256)] == [
        bytes([b]) for b in range(256)
    ]


def test_a_byte_the_vocabulary_lacks_is_dropped_but_still_parts_words(tmp_path: Path) -> None:
    gone = byte_characters()[0x04]
    position = TINY.tokens.index(gone)
    tokens = [token for token in TINY.tokens if token != gone]
    kinds = [kind for n, kind in enumerate(TINY.token_types) if n != position]
    tokenizer = build(
        tmp_path, tokens=tokens, token_type=kinds, pre="gpt-2", bos_token_id=0, eos_token_id=0
    )
    assert spelled(tokenizer, "=\x04=") == ["=", "="]
    assert spelled(tokenizer, " ==") == [" =="]
    assert spelled(tokenizer, " =\x04=") == [" =", "="]


def test_lone_surrogates_count_as_the_replacement_character(tiny: Tokenizer) -> None:
    assert tiny.encode("a\ud800b\udc00") == tiny.encode("a\ufffdb\ufffd")
    assert tiny.encode("\ud83d\ude00") == tiny.encode("😀")


def test_decoding_half_a_character_gives_the_replacement_character(tiny: Tokenizer) -> None:
    assert tiny.decode([ord_id("a"), 0xE6]) == "a\ufffd"


def test_an_unknown_special_token_is_a_request_error(tiny: Tokenizer) -> None:
    with pytest.raises(RequestError, match=r"no special token '<nope>'; it has: <\|endoftext\|>"):
        tiny.encode_special("<nope>")


def test_a_completion_ends_at_every_control_token_and_at_the_end_tokens(tmp_path: Path) -> None:
    plain = build(tmp_path)
    assert plain.eos_id == TINY.id_of("<|im_end|>")
    assert plain.bos_id == TINY.id_of("<|endoftext|>")
    control = {n for n, kind in enumerate(TINY.token_types) if kind == CONTROL}
    assert plain.end_ids == control
    other = build(tmp_path, eos_token_id=65, eot_token_id=66, bos_token_id=None)
    assert other.end_ids == control | {65, 66}
    assert other.bos_id is None


def test_a_text_begins_with_bos_if_the_file_or_its_pre_tokenizer_says_so(tmp_path: Path) -> None:
    assert not build(tmp_path).add_bos
    assert build(tmp_path, add_bos_token=True).add_bos
    assert build(tmp_path, pre="llama-bpe").add_bos
    assert not build(tmp_path, pre="llama-bpe", add_bos_token=False).add_bos


PREFIXES = (
    b"",
    b" ",
    b"  ",
    b"    ",
    b" re",
    b" return",
    b"\n",
    b"<",
    b"\xe6",
    b"\xff",
    b"\xf0\x9f",
)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_lookups_by_text_agree_with_a_search_of_all_tokens(tiny: Tokenizer, prefix: bytes) -> None:
    texts = {token: tiny.token_bytes(token) for token in range(tiny.n_vocab)}
    longer = [token for token, text in texts.items() if text and text.startswith(prefix)]
    shorter = [
        token
        for token, text in texts.items()
        if text and text != prefix and prefix.startswith(text)
    ]
    assert tiny.ids_starting_with(prefix).tolist() == longer
    assert tiny.ids_that_prefix(prefix).tolist() == shorter
    assert tiny.ids_starting_with(prefix).dtype == np.int64


BAD_VOCABULARIES: dict[str, tuple[dict[str, Any], type[EngineError], str]] = {
    "another kind": ({"model": "llama"}, UnsupportedModelError, "model 'llama' .*: gpt2"),
    "unknown pre-tokenizer": ({"pre": "tekken"}, UnsupportedModelError, "'tekken' .*qwen2"),
    "no pre-tokenizer": ({"pre": None}, UnsupportedModelError, "'default' is not supported"),
    "no kind": ({"model": None}, ModelFormatError, "'tokenizer.ggml.model' is missing"),
    "no tokens": ({"tokens": None}, ModelFormatError, "'tokenizer.ggml.tokens' is missing"),
    "no merges": ({"merges": None}, ModelFormatError, "'tokenizer.ggml.merges' is missing"),
    "too few types": ({"token_type": [1, 1]}, ModelFormatError, "token_type has 2 entries"),
    "merge of no token": ({"merges": ["q zz"]}, ModelFormatError, "merges do not fit"),
    "merge of one": ({"merges": ["q"]}, ModelFormatError, "merges do not fit"),
    "eos too large": ({"eos_token_id": 99999}, ModelFormatError, "eos_token_id is 99999"),
    "token twice": (
        {"tokens": ["a", "a"], "token_type": [1, 1], "merges": ["a a"]},
        ModelFormatError,
        "2 tokens have 1 different texts",
    ),
}


@pytest.mark.parametrize(
    ("changes", "error", "message"), BAD_VOCABULARIES.values(), ids=BAD_VOCABULARIES
)
def test_a_vocabulary_we_cannot_use_is_refused_with_its_reason(
    tmp_path: Path, changes: dict[str, Any], error: type[EngineError], message: str
) -> None:
    with pytest.raises(error, match=message):
        build(tmp_path, **changes)


def test_a_file_without_token_types_has_only_text(tmp_path: Path) -> None:
    tokens = list(TINY.tokens[:256])
    tokenizer = build(
        tmp_path,
        tokens=[*tokens, "ab"],
        token_type=None,
        merges=["a b"],
        eos_token_id=1,
        bos_token_id=0,
    )
    assert spelled(tokenizer, "abc") == ["ab", "c"]
    assert tokenizer.special_tokens == {}
