"""The snippets of docs/editors.md: well-formed, and with settings that exist."""

import json
import re
import tomllib
from typing import Any

import msgspec
import pytest

from lsp_server.settings import Settings, merge
from tests.readme import ROOT, code_blocks

EDITORS = "docs/editors.md"


def taken(options: Any) -> Settings:
    """What the server makes of initialization options; a warning is an error here."""

    def refuse(warning: str) -> None:
        pytest.fail(warning)

    return merge(Settings(), options, refuse)


def test_helix_starts_the_server_with_settings_it_knows() -> None:
    (block,) = code_blocks(EDITORS, "toml")
    found = tomllib.loads(block)
    server = found["language-server"]["flash-lsp"]
    assert [server["command"], *server["args"]] == ["flash-lsp", "serve"]
    assert "flash-lsp" in found["language"][0]["language-servers"]
    assert taken(server["config"]) != Settings()


def test_sublime_text_starts_the_server_with_settings_it_knows() -> None:
    (block,) = code_blocks(EDITORS, "json")
    server = json.loads(block)["clients"]["flash-lsp"]
    assert server["command"] == ["flash-lsp", "serve"]
    assert taken(server["initializationOptions"]) != Settings()


def test_emacs_snippets_are_balanced_and_name_settings_there_are() -> None:
    blocks = code_blocks(EDITORS, "elisp")
    known = {field.encode_name for field in msgspec.structs.fields(Settings)}
    assert len(blocks) == 2
    for block in blocks:
        code = re.sub(r";.*", "", block)
        assert code.count("(") == code.count(")")
        assert re.search(r'"flash-lsp" "serve"', code)
        options = re.search(r"nitialization-?[oO]ptions '?\(:(\w+) ", code)
        assert options is not None and options[1] in known


def test_links_between_documents_lead_somewhere() -> None:
    documents = [*(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "benchmarks/README.md"]
    for document in documents:
        targets = re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text(encoding="utf-8"))
        missing = [target for target in targets if not (document.parent / target).exists()]
        assert missing == [], f"{document} links to {missing}"
