import numpy as np
import pytest

from engine.gguf.reader import GgufFile
from engine.pflash.lines import lines_of_tokens, shares_of_lines, split_lines
from engine.tokenizer import Tokenizer
from tests.tiny_gguf import write_tiny_gguf


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = write_tiny_gguf(tmp_path_factory.mktemp("model") / "tiny.gguf", "qwen2", "Q8_0")
    with GgufFile(path) as file:
        return Tokenizer.from_gguf(file)


@pytest.mark.parametrize(
    "text", ["", "a", "a\n", "a\n\nb", "def f():\n    return 漢字\n\n\n😀 = 1\r\nx\n", "\n\n\n"]
)
def test_each_token_belongs_to_the_line_its_first_byte_lies_in(tokenizer: Tokenizer, text: str):
    ids = tokenizer.encode(text)
    found = lines_of_tokens(tokenizer, ids, text)
    before = b""
    for token, line in zip(ids, found, strict=True):
        assert line == before.count(b"\n")
        before += tokenizer.token_bytes(token)
    assert before == text.encode()
    assert "".join(split_lines(text)) == text
    assert all(line < max(len(split_lines(text)), 1) for line in found)


def test_a_lines_share_is_the_sum_over_the_root_of_its_tokens():
    shares = np.array([1, 2, 3, 4], np.float32)
    found = shares_of_lines(shares, np.array([0, 0, 0, 2], np.int32), 4)
    np.testing.assert_allclose(found, [6 / 3**0.5, 0, 4, 0], rtol=1e-6)
