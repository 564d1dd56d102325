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


async def test_what_was_accepted_is_counted_and_later_looked_for(
    session: Session, ask_inline: Ask
) -> None:
    session.server.acceptance.kept_after_s = 0.0
    [item] = (await ask_inline())["items"]
    session.editor.notify(
        "textDocument/didPartiallyAcceptCompletion", {"item": item, "acceptedLength": 6}
    )
    session.editor.edit("return a + b", 1, 4, version=2)
    await session.editor.request("workspace/executeCommand", item["command"])
    await session.editor.until(lambda: session.server.acceptance.n_checked == 1)
    stats = await session.editor.request("flash/stats")
    assert (stats["nAcceptedChars"], stats["nKeptChecked"], stats["keptRate"]) == (12, 1, 1.0)


async def test_items_of_others_are_counted_without_their_text(session: Session) -> None:
    for item in ({}, {"command": 1}, {"command": {}}, {"command": {"arguments": []}}):
        session.editor.notify(
            "textDocument/didPartiallyAcceptCompletion", {"item": item, "acceptedLength": 6}
        )
    stats = await session.editor.request("flash/stats")
    assert (stats["nPartiallyAccepted"], stats["nAcceptedChars"]) == (4, 0)
    assert stats["keptRate"] is None
