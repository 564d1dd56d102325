"""Between the engine's words and the protocol's: errors, status, items and what clients can do."""

import logging
from collections.abc import Mapping
from typing import Any, cast

import msgspec
from lsprotocol import converters, types

from engine.client import EngineState, EngineStatus
from engine.errors import EngineError
from engine.request import EngineStats, ModelInfo
from lsp_server.documents import OutsideTextError, UnknownDocumentError
from lsp_server.jsonrpc import INTERNAL_ERROR, INVALID_PARAMS, REQUEST_FAILED, RpcError
from lsp_server.protocol import (
    Command,
    CopilotStatus,
    FlashModel,
    FlashStatus,
    IndexRecord,
    Position,
    Range,
)
from lsp_server.workspace import IndexStatus

log = logging.getLogger(__name__)

_LABEL_CHARS = 60
_CONVERTER = converters.get_converter()
_SWITCHED_OFF = "completions are switched off by the settings"
_BUSY = (EngineState.STARTING, EngineState.LOADING)


class ClientFeatures(msgspec.Struct, frozen=True, kw_only=True):
    """The few facts about a client that the server acts on."""

    position_encodings: tuple[str, ...] = ()
    has_inline_completion: bool = False
    has_progress: bool = False
    has_configuration: bool = False
    has_apply_edit: bool = False
    has_document_changes: bool = False
    has_change_annotations: bool = False
    has_watched_files: bool = False
    ask_edit_command: str | None = None

    @classmethod
    def of(cls, capabilities: Mapping[str, Any]) -> "ClientFeatures":
        """Read them from the client's capabilities; what is absent or odd counts as not there."""
        offered = _dig(capabilities, "general", "positionEncodings")
        encodings = cast("list[Any]", offered) if isinstance(offered, list) else []
        inline = _dig(capabilities, "textDocument", "inlineCompletion")
        edit = ("workspace", "workspaceEdit")
        watched = ("workspace", "didChangeWatchedFiles", "dynamicRegistration")
        annotations = _dig(capabilities, *edit, "changeAnnotationSupport")
        ask_command = _dig(capabilities, "experimental", "flash", "askEditCommand")
        return cls(
            position_encodings=tuple(str(name) for name in encodings),
            has_inline_completion=isinstance(inline, Mapping),
            has_progress=_dig(capabilities, "window", "workDoneProgress") is True,
            has_configuration=_dig(capabilities, "workspace", "configuration") is True,
            has_apply_edit=_dig(capabilities, "workspace", "applyEdit") is True,
            has_document_changes=_dig(capabilities, *edit, "documentChanges") is True,
            has_change_annotations=isinstance(annotations, Mapping),
            has_watched_files=_dig(capabilities, *watched) is True,
            ask_edit_command=ask_command if isinstance(ask_command, str) else None,
        )


def _dig(tree: object, *path: str) -> object:
    for name in path:
        if not isinstance(tree, Mapping):
            return None
        tree = cast("Mapping[str, object]", tree).get(name)
    return tree


def to_wire(value: Any) -> Any:
    """Turn lsprotocol's classes into plain data; everything else is encoded as it is."""
    return _CONVERTER.unstructure(value) if hasattr(value, "__attrs_attrs__") else value


def to_rpc_error(method: str, error: BaseException) -> RpcError:
    """What the client is told about a failed request: never a traceback or a path of ours."""
    if isinstance(error, RpcError):
        return error
    if isinstance(error, EngineError):
        return RpcError(REQUEST_FAILED, str(error))
    if isinstance(error, UnknownDocumentError | OutsideTextError):
        return RpcError(INVALID_PARAMS, str(error))
    log.error("'%s' failed", method, exc_info=error)
    return RpcError(INTERNAL_ERROR, f"internal error in '{method}' ({type(error).__name__})")


def flash_status(
    status: EngineStatus, *, is_enabled: bool, index: IndexRecord | None = None
) -> FlashStatus:
    """The engine's state as a user sees it; completions switched off is a state of its own."""
    model = None if status.info is None else flash_model(status.info)
    if not is_enabled and status.state is EngineState.READY:
        return FlashStatus("disabled", _SWITCHED_OFF, None, model, index)
    fraction = status.fraction if status.state in _BUSY else None
    return FlashStatus(status.state.value, status.message, fraction, model, index)


def index_record(status: IndexStatus | None) -> IndexRecord | None:
    """The workspace index as a user sees it; None where there is none."""
    if status is None:
        return None
    return IndexRecord(
        files=status.n_files,
        chunks=status.n_chunks,
        skipped=status.n_skipped,
        is_building=status.is_building,
        fraction=status.fraction,
        chunks_rehashed=status.n_chunks_rehashed,
        bytes_on_disk=status.bytes_on_disk,
        warnings=list(status.warnings),
    )


def flash_model(info: ModelInfo) -> FlashModel:
    return FlashModel(
        name=info.name,
        path=info.path,
        architecture=info.architecture,
        backend=info.backend,
        parameters=info.n_parameters,
        context_tokens=info.n_ctx,
        memory_bytes=info.memory_bytes,
        threads=info.n_threads,
        load_ms=info.load_ms,
        notices=list(info.notices),
    )


def engine_counters(stats: EngineStats) -> dict[str, int | float]:
    """The engine's counters under the names the wire uses."""
    counters: dict[str, int | float] = msgspec.structs.asdict(stats)
    return {_camel(name): value for name, value in counters.items()}


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def copilot_status(status: FlashStatus) -> CopilotStatus:
    kinds = {"failed": "Error", "closed": "Inactive", "disabled": "Inactive"}
    is_busy = status.state in ("starting", "loading")
    return CopilotStatus(is_busy, kinds.get(status.state, "Normal"), status.message)


def completion_item(
    text: str, typed: str, where: Range, on_accept: Command
) -> types.CompletionItem:
    """Offer `text` as an item of a completion list.

    `typed` is the word before the cursor that `where` covers: clients match an item against it.
    """
    full = typed + text
    first_line = full.strip().split("\n", 1)[0].rstrip()
    is_cut = len(first_line) > _LABEL_CHARS or first_line != full.strip()
    return types.CompletionItem(
        label=first_line[:_LABEL_CHARS] + ("…" if is_cut else ""),
        kind=types.CompletionItemKind.Text,
        detail="flash-lsp",
        documentation=types.MarkupContent(types.MarkupKind.PlainText, full),
        sort_text="~",  # after what other servers know for certain
        filter_text=full,
        insert_text_format=types.InsertTextFormat.PlainText,
        insert_text_mode=types.InsertTextMode.AsIs,
        text_edit=types.TextEdit(range=lsp_range(where), new_text=full),
        command=types.Command(on_accept.title, on_accept.command, arguments=on_accept.arguments),
    )


def lsp_range(where: Range) -> types.Range:
    return types.Range(start=lsp_position(where.start), end=lsp_position(where.end))


def lsp_position(position: Position) -> types.Position:
    return types.Position(line=position.line, character=position.character)
