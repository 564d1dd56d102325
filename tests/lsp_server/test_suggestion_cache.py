import pytest

from lsp_server.prompt import CompletionInput
from lsp_server.suggestion_cache import SuggestionCache

URI = "file:///a.py"


def at(prefix: str, suffix: str = "\n") -> CompletionInput:
    return CompletionInput(prefix, suffix, "python", "a.py")


def cache(*texts: str, n_asked: int = 1, prefix: str = "x = ") -> SuggestionCache:
    cache = SuggestionCache()
    cache.add(URI, at(prefix), n_asked, texts)
    return cache


@pytest.mark.parametrize(
    ("now", "served"),
    [
        (at("x = "), ("abc + 1",)),
        (at("x = ab"), ("c + 1",)),
        (at("x = abc + 1"), ()),  # nothing is left
        (at("x = abc + 12"), ()),
        (at("x = b"), ()),
        (at("x ="), ()),
        (at("y = ab"), ()),
        (at("z\nx = ab"), ()),  # another text above
        (at("x = ab", ")\n"), ()),
    ],
)
def test_the_rest_of_what_was_predicted_is_served(
    now: CompletionInput, served: tuple[str, ...]
) -> None:
    assert cache("abc + 1").serve(URI, now, 1) == served
    assert cache("abc + 1").serve("file:///b.py", now, 1) == ()


def test_what_repeats_itself_is_matched_at_its_end() -> None:
    assert cache("aaaa", prefix="aa").serve(URI, at("aaaa"), 1) == ("aa",)


def test_in_long_documents_the_end_decides() -> None:
    long = "line\n" * 20_000
    window = (long + "x = ")[-65_536:]
    typed = (long + "x = ab")[-65_536:]
    assert cache("abc", prefix=window).serve(URI, at(typed), 1) == ("c",)


def test_texts_that_were_not_followed_are_left_out() -> None:
    several = cache("abc", "abd", "xyz", n_asked=3)
    assert several.serve(URI, at("x = ab"), 3) == ("c", "d")
    assert several.serve(URI, at("x = ab"), 1) == ("c", "d")
    assert cache("abc").serve(URI, at("x = ab"), 3) == ()


def test_newer_suggestions_come_first_and_old_ones_are_forgotten() -> None:
    cache = SuggestionCache()
    cache.add(URI, at("x = "), 1, ["old"])
    cache.add(URI, at("x = "), 1, ["new"])
    assert cache.serve(URI, at("x = "), 1) == ("new",)
    for n in range(100):
        cache.add(f"file:///{n}", at("x = "), 1, ["other"])
    assert cache.serve(URI, at("x = "), 1) == ()
    cache.clear()
    assert cache.serve("file:///99", at("x = "), 1) == ()
