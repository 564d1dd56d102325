import msgspec
import pytest

from lsp_server import protocol
from lsp_server.protocol import PARAMS, FlashStatus, InlineCompletionParams, Message


def test_every_message_of_ours_is_in_the_table_of_the_docstring() -> None:
    assert protocol.__doc__ is not None
    ours = [
        value
        for name, value in vars(protocol).items()
        if name.isupper() and isinstance(value, str) and not name.startswith("_")
    ]
    assert len(ours) == 13
    for method in ours:
        assert f"| {method} " in protocol.__doc__


@pytest.mark.parametrize("method", PARAMS)
def test_unknown_fields_of_newer_clients_are_ignored(method: str) -> None:
    assert not PARAMS[method].__struct_config__.forbid_unknown_fields


def test_names_on_the_wire_are_camel_case() -> None:
    raw = b'{"textDocument":{"uri":"u"},"position":{"line":1,"character":2},"new":[]}'
    params = msgspec.json.decode(raw, type=InlineCompletionParams)
    assert params.context.selected_completion_info is None
    assert msgspec.to_builtins(params)["textDocument"] == {"uri": "u"}


def test_a_status_always_has_all_its_keys() -> None:
    assert set(msgspec.to_builtins(FlashStatus("ready", ""))) == {
        "state",
        "message",
        "fraction",
        "model",
        "index",
    }
    assert issubclass(FlashStatus, Message)
