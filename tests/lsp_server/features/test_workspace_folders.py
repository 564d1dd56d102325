from tests.lsp_server.memory_editor import Session


async def test_folders_opened_later_are_known(session: Session) -> None:
    assert list(session.server.folders) == ["file:///work/app"]
    added, removed = {"uri": "file:///b", "name": "b"}, {"uri": "file:///work/app", "name": "app"}
    session.editor.notify(
        "workspace/didChangeWorkspaceFolders", {"event": {"added": [added], "removed": [removed]}}
    )
    assert list(session.server.folders) == ["file:///b"]
