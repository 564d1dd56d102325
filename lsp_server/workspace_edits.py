"""Text edits of one document as the WorkspaceEdit its client can take.

LSP 3.18, "WorkspaceEdit": with versions, so that an edit of an old text is refused, and annotated,
so that the editor can say whose it is.
"""

from lsp_server.convert import ClientFeatures
from lsp_server.documents import Document
from lsp_server.protocol import (
    ChangeAnnotation,
    TextDocumentEdit,
    TextEdit,
    VersionedDocumentId,
    WorkspaceEdit,
)

_ANNOTATION = "flash-lsp"
_LABEL_CHARS = 80


def workspace_edit(
    client: ClientFeatures, document: Document, edits: list[TextEdit], label: str
) -> WorkspaceEdit:
    """Edits of the document as it is now."""
    if not client.has_document_changes:
        return WorkspaceEdit(changes={document.uri: edits})
    annotations: dict[str, ChangeAnnotation] | None = None
    if client.has_change_annotations:
        short = label if len(label) <= _LABEL_CHARS else label[: _LABEL_CHARS - 1] + "…"
        annotations = {_ANNOTATION: ChangeAnnotation(f"flash-lsp: {short}")}
        edits = [TextEdit(edit.range, edit.new_text, _ANNOTATION) for edit in edits]
    identifier = VersionedDocumentId(document.uri, document.version)
    return WorkspaceEdit(
        document_changes=[TextDocumentEdit(identifier, edits)], change_annotations=annotations
    )
