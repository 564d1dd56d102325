import pytest

from tests.lsp_server.memory_editor import URI, Session


def text(session: Session) -> str:
    return session.server.documents[URI].text


async def test_the_document_follows_the_editor(session: Session) -> None:
    session.editor.open("ab\n")
    session.editor.edit("X", 0, 1, version=2)
    assert text(session) == "aXb\n"
    assert session.server.documents[URI].version == 2
    session.editor.notify("textDocument/didSave", {"textDocument": {"uri": URI}})
    session.editor.notify("textDocument/didClose", {"textDocument": {"uri": URI}})
    assert len(session.server.documents) == 0


async def test_opening_twice_takes_the_newer_text(session: Session) -> None:
    session.editor.open("one", version=1)
    session.editor.open("two", version=9)
    assert (text(session), len(session.server.documents)) == ("two", 1)


async def test_changes_to_a_document_that_is_not_open_are_logged_and_nothing_else(
    session: Session, caplog: pytest.LogCaptureFixture
) -> None:
    session.editor.notify("textDocument/didClose", {"textDocument": {"uri": URI}})
    session.editor.received.clear()
    session.editor.edit("X", 0, 1, version=2)
    session.editor.notify("textDocument/didClose", {"textDocument": {"uri": URI}})
    assert session.editor.received == []
    assert caplog.text.count("is not open") == 2


async def test_an_unreadable_change_leaves_the_document_alone(
    session: Session, caplog: pytest.LogCaptureFixture
) -> None:
    before = text(session)
    document = {"uri": URI, "version": 2}
    for changes in ("text", [{"range": 5, "text": "x"}], [{"text": None}], None):
        params = {"textDocument": document, "contentChanges": changes}
        session.editor.notify("textDocument/didChange", params)
    assert text(session) == before
    assert caplog.text.count("had no effect") == 4


async def test_a_version_that_falls_is_remarked_and_followed(
    session: Session, caplog: pytest.LogCaptureFixture
) -> None:
    session.editor.open("ab", version=5)
    session.editor.edit("X", 0, 2, version=3)
    assert text(session) == "abX"
    assert "from version 5 to 3" in caplog.text


async def test_half_a_surrogate_pair_in_a_document_is_replaced(session: Session) -> None:
    session.server.peer.receive(
        b'{"jsonrpc":"2.0","method":"textDocument/didOpen","params":{"textDocument":{'
        b'"uri":"%b","languageId":"python","version":1,"text":"a\\ud800b"}}}' % URI.encode()
    )
    assert text(session) == "a\ufffdb"
