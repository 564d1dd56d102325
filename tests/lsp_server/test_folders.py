import pytest

from lsp_server.folders import Folders
from lsp_server.protocol import WorkspaceFolder


def folders(*uris: str) -> Folders:
    opened = Folders()
    opened.change([WorkspaceFolder(uri) for uri in uris], [])
    return opened


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("file:///work/app/src/a.py", "src/a.py"),
        ("file:///work/app/lib/inner/b.py", "b.py"),
        ("file:///work/application/a.py", "a.py"),
        ("file:///elsewhere/deep/a%20b.py", "a b.py"),
        ("file:///work/app", "app"),
        ("file:///", "file:///"),
        ("untitled:Untitled-1", "Untitled-1"),
        ("vscode-notebook-cell:/work/app/n.ipynb#W0", "n.ipynb"),
        ("", ""),
        ("http://[broken/a.py", "a.py"),
    ],
)
def test_a_document_is_named_by_its_path_in_the_innermost_folder(uri: str, path: str) -> None:
    opened = folders("file:///work/app", "file:///work/app/lib/inner/")
    assert opened.relative_path(uri) == path


def test_folders_come_and_go() -> None:
    opened = folders("file:///a", "file:///b", "file:///a")
    opened.change([WorkspaceFolder("file:///c")], [WorkspaceFolder("file:///a")])
    assert list(opened) == ["file:///b", "file:///c"]
