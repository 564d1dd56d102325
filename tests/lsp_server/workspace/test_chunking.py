import pytest

from lsp_server.workspace.chunking import LEAST_LINES, MOST_LINES, chunks_of, content_hash


def function(name: str, n_lines: int) -> str:
    body = "".join(f"    value_{n} = {n}\n" for n in range(n_lines - 2))
    return f"def {name}():\n{body}    return 0\n"


@pytest.mark.parametrize(
    "text",
    [
        function("long", 500),
        "\n\n".join(function(f"f{n}", 13) for n in range(40)),
        "x\r\n" * 200,
        "x\r" * 200,
        "[\n" + "    1,\n" * 300 + "]\n",
        "word " * 10,
        "\f\v\x85\u2028" + "a\n" * 90,
        "no end",
    ],
)
def test_chunks_are_the_whole_text_in_pieces_of_bounded_length(text: str) -> None:
    chunks = chunks_of(text)
    assert "".join(chunk.text for chunk in chunks) == text
    first = 0
    for chunk in chunks:
        assert chunk.first_line == first
        assert chunk.n_lines <= MOST_LINES + 8
        first += chunk.n_lines
    assert all(chunk.n_lines >= LEAST_LINES for chunk in chunks[:-1])


@pytest.mark.parametrize("text", ["", "\n \n\t\n"])
def test_texts_without_words_have_no_chunks(text: str) -> None:
    assert chunks_of(text) == []


def test_functions_are_not_torn() -> None:
    text = "\n\n".join(function(f"f{n}", 18) for n in range(12))
    for chunk in chunks_of(text):
        assert chunk.text.startswith("def f")
        assert chunk.text.rstrip().endswith("return 0")


def test_a_head_keeps_its_decorators_comments_and_body() -> None:
    piece = "# Says why.\n@decorated\n@twice(\n    1)\n" + function("f", 20) + "\n\n"
    chunks = chunks_of(piece * 10)
    assert len(chunks) > 4
    assert all(chunk.text.startswith("# Says why.\n@decorated") for chunk in chunks)


def test_a_long_class_is_cut_at_its_methods() -> None:
    method = "    def go(self) -> None:\n" + "        self.n += 1\n" * 15 + "\n"
    chunks = chunks_of("class Long:\n" + method * 12)
    assert len(chunks) > 3
    assert all(chunk.text.startswith("    def go") for chunk in chunks[1:])


def test_braces_close_what_they_opened() -> None:
    function = "func Go() int {\n" + "\tx := 1\n" * 25 + "}\n"
    chunks = chunks_of("package a\n" + function * 8)
    assert all(chunk.text.rstrip().endswith("}") for chunk in chunks)
    assert all(chunk.text.startswith("func") for chunk in chunks[1:])


def test_an_edit_moves_no_cut_elsewhere() -> None:
    pieces = [function(f"f{n}", 25) + "\n\n" for n in range(20)]
    before = {chunk.text for chunk in chunks_of("".join(pieces))}
    pieces[10] = pieces[10].replace("value_3 = 3\n", "value_3 = 3\n    more = 4\n")
    after = {chunk.text for chunk in chunks_of("".join(pieces))}
    assert len(after - before) == 1


def test_the_hash_names_the_content() -> None:
    assert len(content_hash("a")) == 16
    assert content_hash("a") == content_hash("a") != content_hash("b")
    assert content_hash("\ud800")  # a client may send half a character
