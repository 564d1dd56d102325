from lsp_server.features.suggestion import Query, suggest
from lsp_server.protocol import DocumentId, Position
from tests.lsp_server.memory_editor import URI, Session


async def test_accepted_text_is_imagined_in_the_document(session: Session) -> None:
    session.engine.text = "(a)\n"
    session.editor.open("first = 1\nsecond = pri\n")
    query = Query(
        document=DocumentId(URI),
        position=Position(1, 12),
        inserted="print",
        replaced_from=Position(1, 9),
    )
    assert await suggest(session.server, query) == "(a)"
    texts = [p.text for p in session.engine.requests[0].prompt if not p.is_special]
    assert texts == ["first = 1\nsecond = print", "\n"]


async def test_a_document_is_named_by_its_path_in_the_workspace(session: Session) -> None:
    session.editor.open("x = \n", language_id="", uri="file:///work/app/src/main.c")
    query = Query(document=DocumentId("file:///work/app/src/main.c"), position=Position(0, 4))
    await suggest(session.server, query)
    assert session.server.folders.relative_path(query.document.uri) == "src/main.c"
    assert len(session.engine.requests) == 1
