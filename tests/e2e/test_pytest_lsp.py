"""pytest-lsp's client, with capabilities recorded from real editors, against server and model."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from lsprotocol import types
from pytest_lsp import ClientServerConfig, LanguageClient, client_capabilities

from tests.e2e.conftest import COUNTING, COUNTING_PLACE

pytestmark = [pytest.mark.e2e, pytest.mark.model]

URI = "file:///work/numbers.py"
PLACE = types.Position(*COUNTING_PLACE)


def _agree(params: types.RegistrationParams) -> None:
    """Take a registration, as an editor does."""


async def connect(server_command: list[str], editor: str, *, inline: bool) -> LanguageClient:
    """A client that can do what `editor` can; its record says nothing of inline completion."""
    client = await ClientServerConfig(server_command=server_command).start()
    assert isinstance(client, LanguageClient)
    # The editor of the record takes registrations, the client of the library does not.
    client.feature(types.CLIENT_REGISTER_CAPABILITY)(_agree)
    capabilities = client_capabilities(editor)
    assert capabilities.text_document is not None
    if inline:
        capabilities.text_document.inline_completion = types.InlineCompletionClientCapabilities()
    await client.initialize_session(
        types.InitializeParams(capabilities=capabilities, root_uri="file:///work")
    )
    document = types.TextDocumentItem(URI, "python", 1, COUNTING)
    client.text_document_did_open(types.DidOpenTextDocumentParams(document))
    return client


@pytest_asyncio.fixture(params=["neovim", "visual-studio-code"])
async def client(
    request: pytest.FixtureRequest, server_command: list[str]
) -> AsyncIterator[LanguageClient]:
    client = await connect(server_command, request.param, inline=True)
    yield client
    await client.shutdown_session()


@pytest_asyncio.fixture
async def client_without_inline(server_command: list[str]) -> AsyncIterator[LanguageClient]:
    client = await connect(server_command, "neovim", inline=False)
    yield client
    await client.shutdown_session()


async def test_editors_get_an_inline_completion(client: LanguageClient) -> None:
    answer = await client.text_document_inline_completion_async(
        types.InlineCompletionParams(
            text_document=types.TextDocumentIdentifier(URI),
            position=PLACE,
            context=types.InlineCompletionContext(types.InlineCompletionTriggerKind.Invoked),
        )
    )
    assert isinstance(answer, types.InlineCompletionList)
    assert 1 <= len(answer.items) <= 3
    best = answer.items[0]
    assert isinstance(best.insert_text, str) and best.insert_text.startswith("5")
    assert all(item.range == types.Range(PLACE, PLACE) for item in answer.items)
    assert len({item.insert_text for item in answer.items}) == len(answer.items)


async def test_a_client_without_inline_completion_gets_an_item_of_a_list(
    client_without_inline: LanguageClient,
) -> None:
    answer = await client_without_inline.text_document_completion_async(
        types.CompletionParams(types.TextDocumentIdentifier(URI), PLACE)
    )
    assert answer is not None
    items = answer.items if isinstance(answer, types.CompletionList) else answer
    assert items and items[0].label.startswith("5")
