from collections.abc import Callable
from functools import partial
from typing import Any, cast

import msgspec
import pytest

from lsp_server.context_report import ContextReport
from lsp_server.convert import to_rpc_error, to_wire
from lsp_server.documents import DocumentStore
from lsp_server.features import flash_context
from lsp_server.jsonrpc import Peer
from lsp_server.protocol import FLASH_CONTEXT, PARAMS, ContextParams, Position
from lsp_server.server import FlashServer
from tests.lsp_server.context_reports import EXAMPLE
from tests.lsp_server.memory_editor import URI, Editor, ReplyError


class Explainer:
    """Answers with the example for a document that is open."""

    def __init__(self) -> None:
        self.documents = DocumentStore()

    async def explain(self, uri: str, position: Position, /) -> ContextReport:
        self.documents[uri].place(position)
        return EXAMPLE


class Server:
    """The feature alone behind a real conversation."""

    def __init__(self) -> None:
        self.handlers: dict[str, Callable[[Any], Any]] = {"initialize": lambda params: {}}
        param_types = {**PARAMS, FLASH_CONTEXT: ContextParams}
        self.peer = Peer(self.handlers.get, param_types, to_wire, to_rpc_error)
        self.context = Explainer()

    def on(self, method: str, handler: Callable[[Any, Any], Any]) -> None:
        self.handlers[method] = partial(handler, self)


@pytest.fixture
async def editor() -> Editor:
    server = Server()
    flash_context.register(server)
    server.context.documents.open(URI, "python", 1, "a = 1\n")
    editor = Editor(cast(FlashServer, server))
    await editor.initialize()
    return editor


def params(line: int = 0, uri: str = URI) -> dict[str, Any]:
    return {"textDocument": {"uri": uri}, "position": {"line": line, "character": 0}}


async def test_the_report_is_answered(editor: Editor) -> None:
    answer = await editor.request(FLASH_CONTEXT, params())
    assert answer["keptTokens"] == 20
    assert [span["isKept"] for span in answer["spans"]] == [True, False, True, False]
    assert msgspec.convert(answer, ContextReport) == EXAMPLE


@pytest.mark.parametrize(
    "wrong", [params(uri="file:///unknown.py"), params(line=-1), {"position": {}}]
)
async def test_a_place_that_is_none_is_refused(editor: Editor, wrong: dict[str, Any]) -> None:
    with pytest.raises(ReplyError) as refused:
        await editor.request(FLASH_CONTEXT, wrong)
    assert refused.value.code == -32602
