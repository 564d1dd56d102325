from tests.lsp_server.conftest import Ask
from tests.lsp_server.memory_editor import URI, Session


async def test_reports_are_counted(session: Session, ask_inline: Ask) -> None:
    [item] = (await ask_inline())["items"]
    session.editor.notify("textDocument/didShowCompletion", {"item": item})
    for n_units in (3, 6):
        session.editor.notify(
            "textDocument/didPartiallyAcceptCompletion", {"item": item, "acceptedLength": n_units}
        )
    session.editor.notify("textDocument/didFocus", {"textDocument": {"uri": URI}})
    session.editor.notify("textDocument/didFocus", {})
    stats = await session.editor.request("flash/stats")
    names = ("nShown", "nPartiallyAccepted", "nFocused", "nAccepted")
    assert [stats[name] for name in names] == [1, 2, 2, 0]
