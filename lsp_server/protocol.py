"""Every message the server reads, and every message of our own: plain structs, decoded strictly.

Messages of our own (`flash/*`; more keys may be added to any of them):

| method                               | kind         | direction | params -> result             |
|--------------------------------------|--------------|-----------|------------------------------|
| flash/status                         | request      | to server | none -> FlashStatus          |
| flash/stats                          | request      | to server | none -> FlashStats           |
| flash/restart                        | request      | to server | none -> FlashStatus          |
| flash/didChangeStatus                | notification | to client | FlashStatus                  |
| didChangeStatus                      | notification | to client | CopilotStatus                |
| textDocument/didShowCompletion       | notification | to server | ShownParams                  |
| textDocument/didPartiallyAcceptCompletion | notification | to server | PartiallyAcceptedParams |
| textDocument/didFocus                | notification | to server | FocusParams                  |

The last four carry the names that clients of GitHub's language server already speak. Messages of
the protocol itself are listed in `PARAMS`; their fields are the ones the server uses, so that an
unknown value elsewhere in a client's message never makes it unreadable.
"""

from typing import Annotated, Any

import msgspec

UInt = Annotated[int, msgspec.Meta(ge=0)]
Id = int | str


class Wire(msgspec.Struct, rename="camel", omit_defaults=True):
    """Base of what crosses the wire: camelCase names, absent rather than null."""


class Position(Wire, order=True):
    """Line and character, both from zero; characters count in the negotiated encoding."""

    line: UInt
    character: UInt


class Range(Wire):
    start: Position
    end: Position


# --- the lifecycle -------------------------------------------------------------------------------


class ClientInfo(Wire):
    name: str
    version: str | None = None


class InitializeParams(Wire):
    """`capabilities` stays a plain tree; `ClientFeatures.of` takes the few facts needed."""

    capabilities: dict[str, Any]
    process_id: int | None = None
    client_info: ClientInfo | None = None
    initialization_options: Any = None


class CancelParams(Wire):
    id: Id


# --- documents -----------------------------------------------------------------------------------


class DocumentId(Wire):
    """`version` is an extension of some clients; absent means unknown."""

    uri: str
    version: int | None = None


class DocumentItem(Wire):
    uri: str
    language_id: str
    version: int
    text: str


class DidOpenParams(Wire):
    text_document: DocumentItem


class ContentChange(Wire):
    """Without a range, `text` is the whole new document."""

    text: str
    range: Range | None = None


class DidChangeParams(Wire):
    text_document: DocumentId
    content_changes: list[ContentChange]


class DidCloseParams(Wire):
    text_document: DocumentId


class DidSaveParams(Wire):
    text_document: DocumentId


# --- completions ---------------------------------------------------------------------------------

INVOKED, AUTOMATIC = 1, 2  # InlineCompletionTriggerKind


class SelectedCompletion(Wire):
    """What the client's own popup has selected, as if it were accepted already."""

    range: Range
    text: str


class InlineContext(Wire):
    trigger_kind: int = INVOKED
    selected_completion_info: SelectedCompletion | None = None


class InlineCompletionParams(Wire):
    text_document: DocumentId
    position: Position
    context: InlineContext = msgspec.field(default_factory=InlineContext)


class CompletionParams(Wire):
    text_document: DocumentId
    position: Position


class Command(Wire, omit_defaults=False):
    title: str
    command: str
    arguments: list[Any]


class InlineItem(Wire):
    insert_text: str
    range: Range
    command: Command | None = None


class InlineList(Wire, omit_defaults=False):
    items: list[InlineItem]


# --- the workspace -------------------------------------------------------------------------------


class ConfigurationParams(Wire):
    settings: Any = None


class ExecuteCommandParams(Wire):
    command: str
    arguments: list[Any] | None = None


# --- what clients report -------------------------------------------------------------------------


class ReportedItem(Wire):
    """The item a report is about; its command's first argument is the id we gave it."""

    command: Command | None = None


class ShownParams(Wire):
    item: ReportedItem


class PartiallyAcceptedParams(Wire):
    """`accepted_length` counts UTF-16 units from the start of the item's text."""

    item: ReportedItem
    accepted_length: UInt


class FocusParams(Wire):
    text_document: DocumentId | None = None


# --- ours ----------------------------------------------------------------------------------------


class FlashModel(Wire, omit_defaults=False):
    """The loaded model, as shown to a user."""

    name: str
    path: str
    architecture: str
    backend: str
    parameters: int
    context_tokens: int
    memory_bytes: int
    threads: int
    load_ms: float
    notices: list[str]


class FlashStatus(Wire, omit_defaults=False):
    """`state` is starting, loading, ready, failed, closed or disabled; `message` says why or what
    is being done; `fraction` is how much of the loading is done, in 0..1."""

    state: str
    message: str
    fraction: float | None = None
    model: FlashModel | None = None


class CopilotStatus(Wire, omit_defaults=False):
    """`kind` is Normal, Error, Warning or Inactive."""

    busy: bool
    kind: str
    message: str


class RequestRecord(Wire, omit_defaults=False):
    """How one completion went. Times are milliseconds; `outcome` is offered or a named reason."""

    uri: str
    outcome: str
    total_ms: float
    queue_ms: float = 0.0
    prefill_ms: float = 0.0
    decode_ms: float = 0.0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    tokens: int = 0
    finish_reason: str | None = None


class FlashStats(Wire, omit_defaults=False):
    """`engine` holds the engine's counters, null while no model is loaded; `outcomes` counts
    requests by how they ended; `recent` is oldest first."""

    engine: dict[str, Any] | None
    outcomes: dict[str, int]
    n_shown: int
    n_accepted: int
    n_partially_accepted: int
    recent: list[RequestRecord]


FLASH_STATUS = "flash/status"
FLASH_STATS = "flash/stats"
FLASH_RESTART = "flash/restart"
FLASH_DID_CHANGE_STATUS = "flash/didChangeStatus"
COPILOT_DID_CHANGE_STATUS = "didChangeStatus"
DID_SHOW_COMPLETION = "textDocument/didShowCompletion"
DID_PARTIALLY_ACCEPT_COMPLETION = "textDocument/didPartiallyAcceptCompletion"
DID_FOCUS = "textDocument/didFocus"

# How the params of each method are read; methods not listed take none, or ignore them.
PARAMS: dict[str, type[Wire]] = {
    "initialize": InitializeParams,
    "textDocument/didOpen": DidOpenParams,
    "textDocument/didChange": DidChangeParams,
    "textDocument/didClose": DidCloseParams,
    "textDocument/didSave": DidSaveParams,
    "textDocument/inlineCompletion": InlineCompletionParams,
    "textDocument/completion": CompletionParams,
    "workspace/didChangeConfiguration": ConfigurationParams,
    "workspace/executeCommand": ExecuteCommandParams,
    DID_SHOW_COMPLETION: ShownParams,
    DID_PARTIALLY_ACCEPT_COMPLETION: PartiallyAcceptedParams,
    DID_FOCUS: FocusParams,
}
