from typing import Any

import pytest

from engine.client import EngineState, EngineStatus
from engine.errors import EngineBusyError
from engine.request import EngineStats
from lsp_server.convert import (
    ClientFeatures,
    completion_item,
    copilot_status,
    engine_counters,
    flash_status,
    to_rpc_error,
    to_wire,
)
from lsp_server.documents import UnknownDocumentError
from lsp_server.jsonrpc import RpcError
from lsp_server.protocol import Command, Position, Range
from tests.lsp_server.scripted_engine import INFO

COMMAND = Command(title="Accepted", command="c", arguments=["offer-1"])


@pytest.mark.parametrize(
    ("capabilities", "features"),
    [
        ({}, ClientFeatures()),
        ({"textDocument": {"inlineCompletion": {}}}, ClientFeatures(has_inline_completion=True)),
        ({"textDocument": {"inlineCompletion": None}}, ClientFeatures()),
        ({"window": {"workDoneProgress": True}}, ClientFeatures(has_progress=True)),
        ({"workspace": {"configuration": True}}, ClientFeatures(has_configuration=True)),
        (
            {"general": {"positionEncodings": ["utf-8", 5]}},
            ClientFeatures(position_encodings=("utf-8", "5")),
        ),
        ({"general": [], "window": 5, "workspace": {"configuration": 1}}, ClientFeatures()),
    ],
)
def test_what_a_client_can_do_is_read_without_trust(
    capabilities: dict[str, Any], features: ClientFeatures
) -> None:
    assert ClientFeatures.of(capabilities) == features


@pytest.mark.parametrize(
    ("error", "code", "part"),
    [
        (RpcError(-5, "as it is"), -5, "as it is"),
        (EngineBusyError(3), -32803, "3 requests are already waiting"),
        (UnknownDocumentError("file:///a"), -32602, "didOpen"),
        (ZeroDivisionError("/a/secret"), -32603, "internal error in 'm' (ZeroDivisionError)"),
    ],
)
def test_every_error_has_a_code_and_a_message_fit_for_users(
    error: Exception, code: int, part: str
) -> None:
    told = to_rpc_error("m", error)
    assert told.code == code
    assert part in told.message
    assert "secret" not in told.message


@pytest.mark.parametrize(
    ("state", "is_enabled", "told", "copilot"),
    [
        (EngineState.STARTING, True, "starting", (True, "Normal")),
        (EngineState.LOADING, True, "loading", (True, "Normal")),
        (EngineState.READY, True, "ready", (False, "Normal")),
        (EngineState.READY, False, "disabled", (False, "Inactive")),
        (EngineState.FAILED, False, "failed", (False, "Error")),
        (EngineState.CLOSED, True, "closed", (False, "Inactive")),
    ],
)
def test_every_state_has_a_name_in_both_dialects(
    state: EngineState, is_enabled: bool, told: str, copilot: tuple[bool, str]
) -> None:
    engine = EngineStatus(state=state, message="m", fraction=0.5, info=INFO)
    status = flash_status(engine, is_enabled=is_enabled)
    assert status.state == told
    assert status.fraction == (0.5 if state in ("starting", "loading") else None)
    assert status.model is not None
    in_copilots_words = copilot_status(status)
    assert (in_copilots_words.busy, in_copilots_words.kind) == copilot


def test_an_item_is_matched_against_what_was_typed() -> None:
    where = Range(Position(1, 4), Position(1, 7))
    item = to_wire(completion_item("urn a", "ret", where, COMMAND))
    assert item["label"] == item["filterText"] == item["textEdit"]["newText"] == "return a"
    assert item["textEdit"]["range"]["start"] == {"line": 1, "character": 4}


def test_a_long_line_is_cut_in_the_label_only() -> None:
    item = completion_item("x" * 100, "", Range(Position(0, 0), Position(0, 0)), COMMAND)
    assert item.label == "x" * 60 + "…"
    assert item.filter_text == "x" * 100


def test_engine_counters_have_wire_names() -> None:
    counters = engine_counters(EngineStats(n_cached_tokens=5))
    assert counters["nCachedTokens"] == 5
    assert not any("_" in name for name in counters)
