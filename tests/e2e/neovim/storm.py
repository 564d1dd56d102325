"""A storm of typing in a real Neovim: does at most one request stay in flight, does Neovim answer?

python -m tests.e2e.neovim.storm [--version 0.12] [--drawer builtin] [--seconds 30]
"""

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.e2e.command import flash_lsp
from tests.e2e.neovim.conftest import lua_value
from tests.e2e.neovim.editor import Neovim, find_neovim, missing
from tests.e2e.storm_keys import KEYS_PER_S, Storm, key_times, storm_text
from tests.tiny_gguf import write_tiny_gguf

# Every change of what is in flight is seen, not only what is there now and then.
_WATCH = """
_G.storm = { n_requests = 0, most_in_flight = 0 }
vim.api.nvim_create_autocmd('LspRequest', { callback = function(event)
  local request = event.data.request
  if request.method ~= 'textDocument/inlineCompletion' then return end
  local storm, client = _G.storm, vim.lsp.get_client_by_id(event.data.client_id)
  if request.type == 'pending' then storm.n_requests = storm.n_requests + 1 end
  local in_flight = 0
  for _, known in pairs(client.requests) do
    local is_ours = known.method == request.method
    if is_ours and known.type == 'pending' then in_flight = in_flight + 1 end
  end
  storm.most_in_flight = math.max(storm.most_in_flight, in_flight)
end })
"""


@dataclass(frozen=True, kw_only=True)
class NeovimStorm(Storm):
    """`keys_answered` counts the keys after which Neovim answered and waited for nothing; times
    are from a key to that answer."""

    keys_answered: int


def run_storm(neovim: Neovim, folder: Path, seconds: float) -> NeovimStorm:
    """Type `KEYS_PER_S` for so long, into a Neovim that has the plugin and a server."""
    path = folder / "storm.py"
    path.write_text("\n")
    neovim.command(f"edit {path}")
    neovim.wait("require('flash_lsp').state().state == 'ready'", "engine ready")
    neovim.lua(_WATCH)
    neovim.command("setlocal indentexpr= noautoindent")
    neovim.type("i")
    keys, answered_ms = storm_text(seconds), list[float]()
    began = time.monotonic()
    for number, key in enumerate(keys, start=1):
        pressed = time.monotonic()
        neovim.type("<CR>" if key == "\n" else key)
        if not neovim.request("nvim_get_mode")["blocking"]:
            answered_ms.append(1e3 * (time.monotonic() - pressed))
        time.sleep(max(0.0, began + number / KEYS_PER_S - time.monotonic()))
    n_typed = len(keys.replace("\n", ""))
    typed = "#table.concat(vim.api.nvim_buf_get_lines(0, 0, -1, true))"
    neovim.wait(f"{typed} >= {n_typed}", "text")
    n_in_text = neovim.lua(f"return {typed}")
    neovim.type("<Esc>")
    neovim.wait("next(vim.lsp.get_clients()[1].requests) == nil", "quiet after the storm")
    watched = neovim.lua("return _G.storm")
    return NeovimStorm(
        keys=len(keys),
        keys_answered=len(answered_ms),
        keys_in_text=n_in_text + len(keys) - n_typed,
        requests=watched["n_requests"],
        most_in_flight=watched["most_in_flight"],
        left_in_flight=neovim.lua("return vim.tbl_count(vim.lsp.get_clients()[1].requests)"),
        **key_times(answered_ms),
    )


def storm_in(binary: Path, drawer: str, folder: Path, seconds: float) -> NeovimStorm:
    """A storm against the real server and engine with a tiny model of random weights."""
    model = write_tiny_gguf(folder / "tiny.gguf", "qwen2", "Q8_0", n_ctx=2048)
    command = flash_lsp("serve", "--model", str(model))
    options = lua_value({"cmd": command, "ghost_text": drawer, "settings": {"threads": 1}})
    neovim = Neovim(binary, folder, f"require('flash_lsp').setup({options})")
    try:
        return run_storm(neovim, folder, seconds)
    finally:
        neovim.end()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--version", default="0.11", choices=["0.11", "0.12"])
    parser.add_argument("--drawer", default="plugin", choices=["plugin", "builtin"])
    parser.add_argument("--seconds", type=float, default=30.0)
    args = parser.parse_args()
    binary = find_neovim(args.version)
    if binary is None:
        print(missing(args.version), file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        storm = storm_in(binary, args.drawer, Path(folder), args.seconds)
    print(json.dumps(asdict(storm)))
    return 0 if storm.most_in_flight <= 1 else 1


if __name__ == "__main__":
    sys.exit(main())
