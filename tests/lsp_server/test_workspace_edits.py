import msgspec

from lsp_server.convert import ClientFeatures
from lsp_server.documents import Document, PositionEncoding
from lsp_server.protocol import Position, Range, TextEdit
from lsp_server.workspace_edits import workspace_edit

DOCUMENT = Document("file:///a", "python", 7, "x\n", PositionEncoding.UTF16)
EDITS = [TextEdit(Range(Position(0, 0), Position(0, 1)), "y")]
PLAIN = msgspec.to_builtins(EDITS)


def edit_for(**features: bool) -> object:
    return msgspec.to_builtins(
        workspace_edit(ClientFeatures(**features), DOCUMENT, EDITS, "l" * 200)
    )


def test_a_client_gets_what_it_knows() -> None:
    assert edit_for() == {"changes": {"file:///a": PLAIN}}
    assert edit_for(has_change_annotations=True) == edit_for()
    versioned = {"uri": "file:///a", "version": 7}
    assert edit_for(has_document_changes=True) == {
        "documentChanges": [{"textDocument": versioned, "edits": PLAIN}]
    }


def test_annotated_edits_name_their_annotation() -> None:
    edit = workspace_edit(
        ClientFeatures(has_document_changes=True, has_change_annotations=True),
        DOCUMENT,
        EDITS,
        "l" * 200,
    )
    assert edit.document_changes is not None and edit.change_annotations is not None
    [annotation] = edit.change_annotations
    assert [e.annotation_id for e in edit.document_changes[0].edits] == [annotation]
    assert len(edit.change_annotations[annotation].label) < 100
