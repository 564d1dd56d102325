import subprocess
from pathlib import Path

import pytest

from lsp_server.workspace.listing import Listing
from tests.lsp_server.workspace.indexing import write_files

FILES = {
    ".gitignore": "*.log\n/build/\n!keep.log\n",
    "a.py": "",
    "debug.log": "",
    "keep.log": "",
    "build/out.py": "",
    "src/build/in.py": "",
    "src/.gitignore": "*.tmp\n!debug.log\nlocal/\n",
    "src/debug.log": "",
    "src/x.tmp": "",
    "src/local/y.py": "",
    "node_modules/left/index.js": "",
    "names with blank.py": "",
    "ünicode.py": "",
}
WANTED = {
    *(".gitignore", "a.py", "keep.log", "src/.gitignore", "src/build/in.py", "src/debug.log"),
    *("names with blank.py", "ünicode.py"),
}


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=n", "-c", "user.email=e@e"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def listing(folder: Path, *excluded: str) -> tuple[Listing, list[str]]:
    warnings: list[str] = []
    return Listing(folder, excluded, warnings.append), warnings


@pytest.fixture(params=["walk", "git"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    write_files(tmp_path, FILES)
    if request.param == "git":
        git(tmp_path, "init", "-q")
        git(tmp_path, "add", "a.py")
    return tmp_path


def test_ignored_files_are_left_out_by_the_nearest_rules(folder: Path) -> None:
    found, warnings = listing(folder)
    assert set(found.files()) == WANTED
    assert warnings == []


def test_single_files_are_judged_as_in_a_listing(folder: Path) -> None:
    found, _ = listing(folder)
    new = {"src/new.tmp", "build/deep/new.py", "src/local/z.py", "node_modules/x.js"}
    assert found.ignored([*new, "src/new.py", "keep.log"]) == new


def test_links_to_folders_are_not_followed(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    write_files(outside, {"secret.py": ""})
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    (folder / "away").symlink_to(outside, target_is_directory=True)
    found, _ = listing(folder)
    assert set(found.files()) == WANTED | {"loop", "away"}


def test_patterns_of_the_user_exclude_files(folder: Path) -> None:
    found, _ = listing(folder, "src/", "*.PY~")
    assert found.is_excluded("src/build/in.py")
    assert not found.is_excluded("a.py")


def test_a_broken_pattern_is_a_warning_and_spoils_no_other(tmp_path: Path) -> None:
    write_files(tmp_path, {".gitignore": "!\n*.log\n", "a.log": "", "b.py": ""})
    found, warnings = listing(tmp_path)
    assert found.files() == [".gitignore", "b.py"]
    assert [w for w in warnings if "'!'" in w]


def test_checkouts_within_a_checkout_are_listed(tmp_path: Path) -> None:
    write_files(tmp_path, {"a.py": "", "inner/.gitignore": "*.log\n", "inner/b.py": ""})
    write_files(tmp_path, {"inner/c.log": ""})
    for folder in (tmp_path, tmp_path / "inner"):
        git(folder, "init", "-q")
    assert listing(tmp_path)[0].files() == ["a.py", "inner/.gitignore", "inner/b.py"]


def test_a_folder_that_an_outer_checkout_ignores_is_listed_when_it_is_opened(
    tmp_path: Path,
) -> None:
    git(tmp_path, "init", "-q")
    write_files(tmp_path, {".gitignore": "/vendor/\n", "vendor/lib/a.py": "", "vendor/b.log": ""})
    found, warnings = listing(tmp_path / "vendor")
    assert found.files() == ["b.log", "lib/a.py"]
    assert found.ignored(["lib/a.py"]) == set()
    assert warnings == []


def test_deleted_but_tracked_files_are_named_and_harmless(tmp_path: Path) -> None:
    write_files(tmp_path, {"a.py": "", "b.py": ""})
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    (tmp_path / "a.py").unlink()
    assert "b.py" in listing(tmp_path)[0].files()


def test_without_git_the_folder_is_walked_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(tmp_path, {"a.py": "", ".gitignore": "b.py\n", "b.py": ""})
    git(tmp_path, "init", "-q")
    monkeypatch.setenv("PATH", str(tmp_path))
    found, warnings = listing(tmp_path)
    assert found.files() == [".gitignore", "a.py"]
    assert found.ignored(["b.py", "c.py"]) == {"b.py"}
    assert len(warnings) == 1 and "without git" in warnings[0]


def test_a_repository_cannot_have_git_run_its_programs(tmp_path: Path) -> None:
    write_files(tmp_path, {"a.py": "", "monitor.sh": "#!/bin/sh\ntouch ran\n"})
    (tmp_path / "monitor.sh").chmod(0o755)
    git(tmp_path, "init", "-q")
    git(tmp_path, "config", "core.fsmonitor", str(tmp_path / "monitor.sh"))
    assert "a.py" in listing(tmp_path)[0].files()
    assert not (tmp_path / "ran").exists()
