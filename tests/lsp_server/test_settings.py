from pathlib import Path
from typing import Any

import msgspec
import pytest

from lsp_server.settings import Settings, json_schema, markdown_table, merge


def merged(chosen: object, base: Settings | None = None) -> tuple[Settings, list[str]]:
    warnings: list[str] = []
    return merge(base or Settings(), chosen, warnings.append), warnings


def test_choices_replace_defaults() -> None:
    settings, warnings = merged({"maxTokens": 7, "disabledLanguages": ["markdown"], "threads": 2})
    assert (settings.max_tokens, settings.disabled_languages) == (7, ("markdown",))
    assert settings.engine_config.n_threads == 2
    assert warnings == []


def test_the_section_itself_may_be_named() -> None:
    assert merged({"flashLsp": {"maxTokens": 7}, "other": 1})[0].max_tokens == 7


@pytest.mark.parametrize("chosen", [None, {}, {"maxTokens": None, "threads": None}])
def test_what_is_not_set_keeps_its_default(chosen: object) -> None:
    assert merged(chosen) == (Settings(), [])


@pytest.mark.parametrize(
    ("chosen", "parts"),
    [
        ({"maxTokns": 1}, ["maxTokns", "'maxTokens'"]),
        ({"max_tokens": 1}, ["max_tokens", "'maxTokens'"]),
        ({"zzz": 1}, ["unknown setting 'zzz'"]),
        ({"maxTokens": "many"}, ["maxTokens", "int"]),
        ({"maxTokens": 0}, ["maxTokens", ">= 1"]),
        ({"temperature": 9}, ["temperature", "<= 2"]),
        ({"enabled": 1}, ["enabled", "bool"]),
        ({"disabledLanguages": "python"}, ["disabledLanguages", "array"]),
        ({"model": ""}, ["model"]),
        ([1], ["expected an object, got list"]),
        ("fast", ["expected an object, got str"]),
    ],
)
def test_what_cannot_be_followed_is_one_warning_and_nothing_else(
    chosen: object, parts: list[str]
) -> None:
    settings, warnings = merged(chosen)
    assert settings == Settings()
    assert len(warnings) == 1
    assert all(part in warnings[0] for part in parts)


def test_one_bad_choice_does_not_spoil_the_others() -> None:
    settings, warnings = merged({"maxTokens": -1, "debounceMs": 3})
    assert (settings.max_tokens, settings.debounce_ms, len(warnings)) == (128, 3, 1)


def test_later_choices_keep_earlier_ones() -> None:
    first, _ = merged({"maxTokens": 7})
    second, _ = merged({"debounceMs": 3}, base=first)
    assert (second.max_tokens, second.debounce_ms) == (7, 3)


def test_every_setting_is_described_with_its_default() -> None:
    properties: dict[str, Any] = json_schema()["properties"]
    assert list(properties) == [field.encode_name for field in msgspec.structs.fields(Settings)]
    for name, described in properties.items():
        assert described["description"].endswith("."), name
        assert "default" in described, name
        assert f"`flashLsp.{name}`" in markdown_table()


def test_settings_that_name_files_belong_to_the_machine() -> None:
    properties = json_schema()["properties"]
    machine = {name for name, described in properties.items() if described.get("scope")}
    assert machine == {"model", "modelsDir", "drafter", "pflashScorer"}


def test_the_defaults_pass_their_own_checks() -> None:
    defaults = msgspec.to_builtins(Settings())
    assert merged(defaults) == (Settings(), [])


def test_the_readme_documents_every_setting_as_it_is() -> None:
    readme = Path(__file__).parent.parent.parent / "README.md"
    assert markdown_table() in readme.read_text("utf-8")


def test_how_to_speculate_reaches_the_engine() -> None:
    chosen = {"speculation": "lookup", "treeBudget": 22, "drafter": "d.gguf"}
    config = merged(chosen)[0].engine_config
    assert (config.speculation, config.tree_budget, config.drafter) == ("lookup", 22, "d.gguf")
    for wrong in ({"speculation": "fast"}, {"treeBudget": 64}, {"treeBudget": 0}):
        assert merged(wrong)[0] == Settings()


def test_the_kv_cache_type_reaches_the_engine() -> None:
    assert merged({"kvType": "q8_0"})[0].engine_config.kv_type == "q8_0"
    assert merged({"kvType": "q2"})[0] == Settings()
