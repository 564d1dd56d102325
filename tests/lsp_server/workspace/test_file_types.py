import pytest

from lsp_server.workspace.file_types import family_of, language_of


@pytest.mark.parametrize(
    ("path", "language"),
    [
        ("a/b.py", "python"),
        ("a.tsx", "typescriptreact"),
        ("A.H", "cpp"),
        ("m.c", "c"),
        ("Dockerfile", "dockerfile"),
        ("CMakeLists.txt", "cmake"),
        ("LICENSE", "plaintext"),
        (".gitignore", "plaintext"),
    ],
)
def test_names_tell_the_language(path: str, language: str) -> None:
    assert language_of(path) == language


def test_languages_that_share_definitions_are_one_family() -> None:
    assert family_of("typescriptreact") == family_of("javascript") != family_of("python")
    assert family_of("c") == family_of("cpp")
