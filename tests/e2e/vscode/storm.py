"""A storm of typing in real VS Code: does at most one request stay in flight, do keys get through?

python -m tests.e2e.vscode.storm [--seconds 30]
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.e2e.artifacts import ARTIFACTS
from tests.e2e.command import flash_lsp
from tests.e2e.storm_keys import KEYS_PER_S, Storm, key_times, storm_text
from tests.e2e.vscode.code_server import ROOT, missing, package_extension
from tests.e2e.vscode.window import Window, opened
from tests.e2e.wiretap import traffic
from tests.tiny_gguf import write_tiny_gguf

WIRETAP = ROOT / "tests" / "e2e" / "wiretap.py"
LOG = "wire.jsonl"

# From a key to the frame that shows it, as the browser measures it in steps of 8 ms; it tells
# nothing of keys that took less than 16.
_WATCH = """
window.stormKeys = [];
new PerformanceObserver(list => {
    for (const entry of list.getEntries()) {
        if (entry.name === 'keydown') window.stormKeys.push(entry.duration);
    }
}).observe({ type: 'event', durationThreshold: 16 });
"""


@dataclass(frozen=True, kw_only=True)
class VsCodeStorm(Storm):
    """Times are from a key to the frame that shows it."""

    keys_per_s: float


def stormy(vsix: Path, folder: Path) -> AbstractAsyncContextManager[Window]:
    """A window with the real server and engine, a tiny model of random weights, and a tap between
    the editor and the server."""
    model = write_tiny_gguf(folder / "tiny.gguf", "qwen2", "Q8_0", n_ctx=2048)
    settings = {
        "flash-lsp.command": [sys.executable, str(WIRETAP), str(folder / LOG), *flash_lsp()],
        "flashLsp.model": str(model),
        "flashLsp.threads": 1,
    }
    return opened(vsix, folder, settings, last=ARTIFACTS / "vscode-storm-last.png", status="tiny")


async def run_storm(window: Window, seconds: float) -> VsCodeStorm:
    """Type `KEYS_PER_S` for so long."""
    text, log = storm_text(seconds), window.workspace.parent / LOG
    await window.open("storm.py", "")
    await window.page.evaluate(_WATCH)
    before, began = traffic(log), time.monotonic()
    for number, character in enumerate(text, start=1):
        await window.page.keyboard.press("Enter" if character == "\n" else character)
        await asyncio.sleep(max(0.0, began + number / KEYS_PER_S - time.monotonic()))
    took_s = time.monotonic() - began

    async def is_quiet() -> bool:
        now = traffic(log)
        return now.requests > before.requests and now.left_in_flight == 0

    await window.until(is_quiet, "quiet after the storm")
    found = await window.saved_after("")
    seen_ms = await window.page.evaluate("window.stormKeys")
    after = traffic(log)
    return VsCodeStorm(
        keys=len(text),
        keys_in_text=sum(a == b for a, b in zip(text, found, strict=False)),
        keys_per_s=round(len(text) / took_s, 1),
        requests=after.requests - before.requests,
        most_in_flight=after.most_in_flight,
        left_in_flight=after.left_in_flight,
        **key_times([0.0] * (len(text) - len(seen_ms)) + seen_ms),
    )


async def storm_alone(seconds: float) -> VsCodeStorm:
    with tempfile.TemporaryDirectory() as folder:
        async with stormy(package_extension(), Path(folder)) as window:
            return await run_storm(window, seconds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0)
    args = parser.parse_args()
    if (reason := missing()) is not None:
        print(reason, file=sys.stderr)
        return 1
    storm = asyncio.run(storm_alone(args.seconds))
    print(json.dumps(asdict(storm)))
    return 0 if storm.most_in_flight <= 1 and storm.keys == storm.keys_in_text else 1


if __name__ == "__main__":
    sys.exit(main())
