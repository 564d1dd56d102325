"""The real server over stdio or TCP, with an engine that says what it is told to.

A model called "held" never finishes a completion. With `--wants FILE` the engine wants to write one
of the texts in a JSON list: it goes on with the one whose beginning the prompt ends with, and where
a variant is asked for, with another one that begins so. With `--edit TEXT` that is its answer to
every instruction.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from engine.config import EngineConfig  # noqa: E402
from engine.request import GenerateRequest, GenerateResult  # noqa: E402
from lsp_server.server import run_stdio, run_tcp  # noqa: E402
from tests.lsp_server.scripted_engine import ScriptedEngine  # noqa: E402


class WantingEngine(ScriptedEngine):
    """Goes on with the text it wants to write, wherever in it the prompt ends."""

    def __init__(self, config: EngineConfig, wanted: list[str], edit: str) -> None:
        super().__init__(config)
        self._wanted, self._edit = wanted, edit

    async def generate(
        self, request: GenerateRequest, on_text: Callable[[str], bool] | None = None
    ) -> GenerateResult:
        is_chat = any(part.text == "<|im_start|>" for part in request.prompt if part.is_special)
        texts = [part.text.replace("\r\n", "\n") for part in request.prompt if not part.is_special]
        if is_chat:
            self.text = self._edit
        else:
            texts = self._continuations(texts) or [""]
            seed = request.sampling.seed if request.sampling.temperature > 0 else 0
            self.text = texts[seed % len(texts)]
        return await super().generate(request, on_text)

    def _continuations(self, texts: list[str]) -> list[str]:
        """What the wanted texts go on with that have most of their beginning in a prompt."""
        heads = [
            (n_chars, wanted[n_chars:])
            for wanted in self._wanted
            for n_chars in range(1, len(wanted))
            if any(text.endswith(wanted[:n_chars]) for text in texts)
        ]
        longest = max((n_chars for n_chars, _ in heads), default=0)
        return [text for n_chars, text in heads if n_chars == longest]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("command", nargs="?", choices=["serve"])  # as flash-lsp is started
    parser.add_argument("--tcp", action="store_true")
    parser.add_argument("--wants", type=Path)
    parser.add_argument("--edit", default="")
    return parser.parse_args()


ARGUMENTS = parse_arguments()


def make_engine(config: EngineConfig, in_process: bool) -> ScriptedEngine:
    print("a stray print must not reach the client", flush=True)
    if ARGUMENTS.wants is not None:
        wanted = json.loads(ARGUMENTS.wants.read_text(encoding="utf-8"))
        return WantingEngine(config, wanted, ARGUMENTS.edit)
    engine = ScriptedEngine(config)
    if config.model == "held":
        engine.go_on.clear()
    return engine


if __name__ == "__main__":
    if ARGUMENTS.tcp:
        code = run_tcp(0, None, make_engine, lambda port: print(port, file=sys.stderr, flush=True))
    else:
        code = run_stdio(None, make_engine)
    sys.exit(code)
