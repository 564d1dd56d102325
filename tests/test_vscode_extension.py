"""What of the VS Code extension is declared twice, or could disagree with the server."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
EXTENSION = ROOT / "vscode-extension"
PACKAGE: dict[str, Any] = json.loads((EXTENSION / "package.json").read_text("utf-8"))
CONTRIBUTES = PACKAGE["contributes"]
DECLARED = [command["command"] for command in CONTRIBUTES["commands"]]


def sources() -> str:
    return "\n".join(p.read_text("utf-8") for p in sorted((EXTENSION / "src").glob("*.ts")))


def test_the_settings_are_those_of_the_server() -> None:
    command = [sys.executable, str(EXTENSION / "scripts" / "settings.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_a_repository_must_not_choose_is_restricted() -> None:
    restricted = PACKAGE["capabilities"]["untrustedWorkspaces"]["restrictedConfigurations"]
    of_machine = {
        name
        for section in CONTRIBUTES["configuration"]
        for name, described in section["properties"].items()
        if described.get("scope") == "machine"
    }
    assert {"flash-lsp.command", "flashLsp.model", "flashLsp.modelsDir"} <= of_machine
    assert set(restricted) == of_machine


def test_the_version_and_the_licence_are_those_of_the_server() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert PACKAGE["version"] == project["version"]
    assert PACKAGE["license"] == project["license"]
    assert (EXTENSION / "LICENSE").read_text("utf-8") == (ROOT / "LICENSE").read_text("utf-8")


def test_every_command_is_declared_and_there() -> None:
    body = re.search(r"const commands.*?= \{\n(.*?)\n  \};", sources(), re.DOTALL)
    assert body is not None
    names = re.findall(r"^    (\w+):", body[1], re.MULTILINE)
    assert sorted(f"flash-lsp.{name}" for name in names) == sorted(DECLARED)


def test_keys_menus_and_links_run_commands_there_are() -> None:
    used = [binding["command"] for binding in CONTRIBUTES["keybindings"]]
    used += [item["command"] for menu in CONTRIBUTES["menus"].values() for item in menu]
    used += re.findall(r"\(command:([\w.-]+)\)", json.dumps(CONTRIBUTES["walkthroughs"]))
    ours = {name for name in used if not name.startswith("editor.action.")}
    assert ours <= set(DECLARED)


def test_the_lock_file_names_no_registry_but_the_public_one() -> None:
    lock = json.loads((EXTENSION / "package-lock.json").read_text("utf-8"))
    for name, package in lock["packages"].items():
        resolved = package.get("resolved", "https://registry.npmjs.org/")
        assert resolved.startswith("https://registry.npmjs.org/"), name
