"""Every message the server reads, and every message of our own: plain structs, decoded strictly.

Messages of our own (`flash/*`; more keys may be added to any of them):

| method                               | kind         | direction | params -> result             |
|--------------------------------------|--------------|-----------|------------------------------|
| flash/status                         | request      | to server | none -> FlashStatus          |
| flash/stats                          | request      | to server | none -> FlashStats           |
| flash/restart                        | request      | to server | none -> FlashStatus          |
| flash/context                        | request      | to server | ContextParams -> ContextReport |
| flash/contextPage                    | request      | to server | ContextParams -> ContextPage |
| flash/edit                           | notification | to client | EditEvent                    |
| flash/didChangeStatus                | notification | to client | FlashStatus                  |
| didChangeStatus                      | notification | to client | CopilotStatus                |
| textDocument/copilotInlineEdit | request | to server | InlineEditParams -> InlineEditList |
| textDocument/didShowInlineEdit       | notification | to server | ShownParams                  |
| textDocument/didShowCompletion       | notification | to server | ShownParams                  |
| textDocument/didPartiallyAcceptCompletion | notification | to server | PartiallyAcceptedParams |
| textDocument/didFocus                | notification | to server | FocusParams                  |

The last six carry the names that clients of GitHub's language server already speak. Messages of
the protocol itself are listed in `PARAMS`; their fields are the ones the server uses, so that an
unknown value elsewhere in a client's message never makes it unreadable.
"""

from typing import Annotated, Any

import msgspec

from lsp_server.context_report import ContextReport

UInt = Annotated[int, msgspec.Meta(ge=0)]
Id = int | str


class Message(msgspec.Struct, rename="camel", omit_defaults=True):
    """Base of what crosses the wire: camelCase names, absent rather than null."""


class Position(Message, order=True):
    """Line and character, both from zero; characters count in the negotiated encoding."""

    line: UInt
    character: UInt


class Range(Message):
    start: Position
    end: Position


# --- the lifecycle -------------------------------------------------------------------------------


class WorkspaceFolder(Message):
    uri: str


class InitializeParams(Message):
    """`capabilities` stays a plain tree; `ClientFeatures.of` takes the few facts needed."""

    capabilities: dict[str, Any]
    process_id: int | None = None
    workspace_folders: list[WorkspaceFolder] | None = None
    initialization_options: Any = None


class CancelParams(Message):
    id: Id


# --- documents -----------------------------------------------------------------------------------


class DocumentId(Message):
    """`version` is an extension of some clients; absent means unknown."""

    uri: str
    version: int | None = None


class DocumentItem(Message):
    uri: str
    language_id: str
    version: int
    text: str


class DidOpenParams(Message):
    text_document: DocumentItem


class ContentChange(Message):
    """Without a range, `text` is the whole new document."""

    text: str
    range: Range | None = None


class DidChangeParams(Message):
    text_document: DocumentId
    content_changes: list[ContentChange]


class DidCloseParams(Message):
    text_document: DocumentId


class DidSaveParams(Message):
    text_document: DocumentId


# --- completions ---------------------------------------------------------------------------------

INVOKED, AUTOMATIC = 1, 2  # InlineCompletionTriggerKind


class SelectedCompletion(Message):
    """What the client's own popup has selected, as if it were accepted already."""

    range: Range
    text: str


class InlineContext(Message):
    trigger_kind: int = INVOKED
    selected_completion_info: SelectedCompletion | None = None


class InlineCompletionParams(Message):
    text_document: DocumentId
    position: Position
    context: InlineContext = msgspec.field(default_factory=InlineContext)


class CompletionParams(Message):
    text_document: DocumentId
    position: Position


class Command(Message, omit_defaults=False):
    title: str
    command: str
    arguments: list[Any]


class InlineItem(Message):
    insert_text: str
    range: Range
    command: Command | None = None


class InlineList(Message, omit_defaults=False):
    items: list[InlineItem]


# --- the workspace -------------------------------------------------------------------------------


class FoldersEvent(Message):
    added: list[WorkspaceFolder]
    removed: list[WorkspaceFolder]


class DidChangeFoldersParams(Message):
    event: FoldersEvent


class FileEvent(Message):
    uri: str


class DidChangeWatchedFilesParams(Message):
    """What happened to a file does not matter: it is looked at anyway."""

    changes: list[FileEvent]


class ConfigurationParams(Message):
    settings: Any = None


class ExecuteCommandParams(Message):
    command: str
    arguments: list[Any] | None = None
    partial_result_token: Id | None = None


class ProgressParams(Message, omit_defaults=False):
    token: Id
    value: Any


# --- edits ---------------------------------------------------------------------------------------


class TextEdit(Message):
    range: Range
    new_text: str
    annotation_id: str | None = None


class VersionedDocumentId(Message, omit_defaults=False):
    uri: str
    version: int | None


class TextDocumentEdit(Message):
    text_document: VersionedDocumentId
    edits: list[TextEdit]


class ChangeAnnotation(Message):
    label: str
    needs_confirmation: bool = False
    description: str | None = None


class WorkspaceEdit(Message):
    """Either `changes` or, for clients that know versions, `document_changes`."""

    changes: dict[str, list[TextEdit]] | None = None
    document_changes: list[TextDocumentEdit] | None = None
    change_annotations: dict[str, ChangeAnnotation] | None = None


class ApplyEditParams(Message):
    edit: WorkspaceEdit
    label: str | None = None


class Diagnostic(Message):
    """What of a problem is used here; the rest does not come back to the client."""

    range: Range
    message: str
    severity: int | None = None
    source: str | None = None


class CodeActionContext(Message):
    diagnostics: list[Diagnostic] = []
    only: list[str] | None = None


class CodeActionParams(Message):
    text_document: DocumentId
    range: Range
    context: CodeActionContext = msgspec.field(default_factory=CodeActionContext)


class CodeAction(Message):
    title: str
    kind: str
    command: Command
    diagnostics: list[Diagnostic] | None = None


class EditArguments(Message):
    """The one argument of flash.edit. The range is widened to whole lines. `version` refuses the
    edit if the document has another one by now; `id` names the edit in what is said of it.
    With `apply` the server has the client apply the edit instead of answering it; with
    `keeps_code` nothing but comments and documentation may change."""

    uri: str
    range: Range
    instruction: Annotated[str, msgspec.Meta(min_length=1, max_length=20_000)]
    version: int | None = None
    id: str | None = None
    apply: bool = False
    keeps_code: bool = False


class InlineEditContext(Message):
    diagnostics: list[Diagnostic] = []


class InlineEditParams(Message):
    """`context` is an extension of ours."""

    text_document: DocumentId
    position: Position | None = None
    context: InlineEditContext = msgspec.field(default_factory=InlineEditContext)


class InlineEdit(Message):
    """`command` is to be run once the edit is accepted; its title says why it is offered."""

    text: str
    text_document: VersionedDocumentId
    range: Range
    command: Command


class InlineEditList(Message, omit_defaults=False):
    edits: list[InlineEdit]


class CapsuleArguments(Message):
    """The one argument of flash.saveCapsule, which may be left out."""

    with_text: bool = False


class ContextParams(Message):
    """Where to explain the context; the answer is a ContextReport."""

    text_document: DocumentId
    position: Position


class ContextPage(Message, omit_defaults=False):
    """A report, and the same as one self-contained page to show."""

    report: ContextReport
    html: str


class EditEvent(Message):
    """How an edit goes. `kind` is delta, with more `text` of the answer as the model writes it;
    done, with the whole `text` of the lines that replace the old ones; or failed, with the `reason`
    to show and its name in `code`."""

    id: str
    uri: str
    kind: str
    text: str | None = None
    reason: str | None = None
    code: str | None = None


# --- what clients report -------------------------------------------------------------------------


class ShownParams(Message):
    item: dict[str, Any]


class PartiallyAcceptedParams(Message):
    """`accepted_length` counts UTF-16 units from the start of the item's text."""

    item: dict[str, Any]
    accepted_length: UInt


class FocusParams(Message):
    text_document: DocumentId | None = None


# --- ours ----------------------------------------------------------------------------------------


class FlashModel(Message, omit_defaults=False):
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


class IndexRecord(Message, omit_defaults=False):
    """The workspace index. `skipped` counts files left out, by reason; `chunks_rehashed` counts
    chunks that were new or changed since the server started; `warnings` say what was worked
    around."""

    files: int
    chunks: int
    skipped: dict[str, int]
    is_building: bool
    fraction: float
    chunks_rehashed: int
    bytes_on_disk: int
    warnings: list[str]


class FlashStatus(Message, omit_defaults=False):
    """`state` is starting, loading, ready, failed, closed or disabled; `message` says why or what
    is being done; `fraction` is how much of the loading is done, in 0..1. `index` is null where
    no folder is indexed."""

    state: str
    message: str
    fraction: float | None = None
    model: FlashModel | None = None
    index: IndexRecord | None = None


class CopilotStatus(Message, omit_defaults=False):
    """`kind` is Normal, Error, Warning or Inactive."""

    busy: bool
    kind: str
    message: str


class SourceRecord(Message, omit_defaults=False):
    """Drafts of one source."""

    proposed: int
    accepted: int


class SpeculationRecord(Message, omit_defaults=False):
    """What drafting did for one completion. `acceptance_length` is tokens per step; of the
    histograms, entry n counts steps with n accepted drafts, or n drafts. `plain_ms` estimates
    decoding without drafts."""

    mode: str
    steps: int
    acceptance_length: float
    by_source: dict[str, SourceRecord]
    accepted_lengths: list[int]
    tree_sizes: list[int]
    draft_ms: float
    verify_ms: float
    commit_ms: float
    host_ms: float
    plain_ms: float


class RequestRecord(Message, omit_defaults=False):
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
    speculation: SpeculationRecord | None = None


class FlashStats(Message, omit_defaults=False):
    """`engine` holds the engine's counters, null while no model is loaded; `outcomes` counts
    requests by how they ended, `edits` edits by an instruction, `next_edits` those
    that were foreseen; `recent` is oldest first.
    `kept_rate` is the share of accepted characters still there 30 s later, of the `n_kept_checked`
    completions looked at so far."""

    engine: dict[str, Any] | None
    outcomes: dict[str, int]
    n_focused: int
    n_shown: int
    n_accepted: int
    n_partially_accepted: int
    n_accepted_chars: int
    n_kept_checked: int
    kept_rate: float | None
    edits: dict[str, int]
    next_edits: dict[str, int]
    recent: list[RequestRecord]
    index: IndexRecord | None


FLASH_STATUS = "flash/status"
FLASH_STATS = "flash/stats"
FLASH_RESTART = "flash/restart"
FLASH_CONTEXT = "flash/context"
FLASH_CONTEXT_PAGE = "flash/contextPage"
FLASH_EDIT = "flash/edit"
FLASH_DID_CHANGE_STATUS = "flash/didChangeStatus"
COPILOT_DID_CHANGE_STATUS = "didChangeStatus"
DID_SHOW_COMPLETION = "textDocument/didShowCompletion"
DID_PARTIALLY_ACCEPT_COMPLETION = "textDocument/didPartiallyAcceptCompletion"
DID_FOCUS = "textDocument/didFocus"
COPILOT_INLINE_EDIT = "textDocument/copilotInlineEdit"
DID_SHOW_INLINE_EDIT = "textDocument/didShowInlineEdit"

# How the params of each method are read; methods not listed take none, or ignore them.
PARAMS: dict[str, type[Message]] = {
    "initialize": InitializeParams,
    FLASH_CONTEXT: ContextParams,
    FLASH_CONTEXT_PAGE: ContextParams,
    "textDocument/didOpen": DidOpenParams,
    "textDocument/didChange": DidChangeParams,
    "textDocument/didClose": DidCloseParams,
    "textDocument/didSave": DidSaveParams,
    "textDocument/inlineCompletion": InlineCompletionParams,
    "textDocument/completion": CompletionParams,
    "textDocument/codeAction": CodeActionParams,
    "workspace/didChangeWorkspaceFolders": DidChangeFoldersParams,
    "workspace/didChangeConfiguration": ConfigurationParams,
    "workspace/didChangeWatchedFiles": DidChangeWatchedFilesParams,
    "workspace/executeCommand": ExecuteCommandParams,
    DID_SHOW_COMPLETION: ShownParams,
    DID_PARTIALLY_ACCEPT_COMPLETION: PartiallyAcceptedParams,
    DID_FOCUS: FocusParams,
    COPILOT_INLINE_EDIT: InlineEditParams,
    DID_SHOW_INLINE_EDIT: ShownParams,
}
