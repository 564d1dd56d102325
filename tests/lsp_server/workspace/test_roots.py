from pathlib import Path

import pytest

from lsp_server.workspace.roots import inner_prefixes, locate, path_of_uri, roots_of


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("file:///a/b%20c.py", "/a/b c.py"),
        ("file:///a/%C3%BC.py", "/a/ü.py"),
        ("file:///a/../etc/passwd", "/etc/passwd"),
        ("untitled:Untitled-1", None),
        ("file:///a%00b", None),
        ("http://[bad", None),
        ("", None),
    ],
)
def test_uris_name_files_or_nothing(uri: str, path: str | None) -> None:
    assert path_of_uri(uri) == path


def test_one_folder_has_no_prefix_and_several_have_their_names(tmp_path: Path) -> None:
    folders = [tmp_path / "x" / "app", tmp_path / "y" / "app", tmp_path / "lib"]
    for folder in folders:
        folder.mkdir(parents=True)
    assert [root.prefix for root in roots_of([folders[0].as_uri()])[0]] == [""]
    roots, warnings = roots_of([folder.as_uri() for folder in folders])
    assert [root.prefix for root in roots] == ["app/", "app-2/", "lib/"]
    assert warnings == []


def test_folders_that_are_none_are_warnings(tmp_path: Path) -> None:
    gone = (tmp_path / "gone").as_uri()
    roots, warnings = roots_of([tmp_path.as_uri(), tmp_path.as_uri() + "/", gone, "vsls:/x"])
    assert [root.path for root in roots] == [tmp_path.resolve()]
    assert len(warnings) == 2 and gone in warnings[0]


def test_documents_are_found_in_the_innermost_folder(tmp_path: Path) -> None:
    inner = tmp_path / "packages" / "core"
    inner.mkdir(parents=True)
    roots, _ = roots_of([tmp_path.as_uri(), inner.as_uri()])
    place = locate(roots, (inner / "a b.py").as_uri())
    assert place is not None
    assert (place.root.path, place.relative) == (inner.resolve(), "a b.py")
    assert locate(roots, "file:///elsewhere/a.py") is None
    assert locate(roots, tmp_path.as_uri() + "-other/a.py") is None
    assert inner_prefixes(roots[0], roots) == ("packages/core/",)
    assert inner_prefixes(roots[1], roots) == ()


def test_a_folder_behind_a_link_is_found_by_both_names(tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.mkdir()
    link = tmp_path / "link"
    link.symlink_to(real, target_is_directory=True)
    roots, _ = roots_of([link.as_uri()])
    for base in (link, real):
        place = locate(roots, (base / "a.py").as_uri())
        assert place is not None and place.relative == "a.py"
    assert roots[0].uri_of("ü b.py") == f"{link.as_uri()}/%C3%BC%20b.py"
