import pytest

from lsp_server.workspace.identifiers import occurrences, terms_of_name, terms_of_text


@pytest.mark.parametrize(
    ("name", "terms"),
    [
        ("parse_config", ("parse_config", "parse", "config")),
        ("parseConfig", ("parseconfig", "parse", "config")),
        ("HTTPServer", ("httpserver", "http", "server")),
        ("MAX_N", ("max_n", "max")),
        ("sha256sum", ("sha256sum", "sha", "256", "sum")),
        ("word", ("word",)),
        ("größe_messen", ("größe_messen", "größe", "messen")),
    ],
)
def test_names_are_split_into_their_words(name: str, terms: tuple[str, ...]) -> None:
    assert terms_of_name(name) == terms


def test_terms_of_a_text_are_each_there_once_without_common_words() -> None:
    text = "def parse_config(self, x): return parse_config(getName)\n"
    assert terms_of_text(text) == "config getname name parse parse_config"


def test_occurrences_say_where_they_begin() -> None:
    found = occurrences("ab foo = bar(foo)", 3)
    assert [(o.name, o.start) for o in found] == [("foo", 3), ("bar", 9), ("foo", 13)]
