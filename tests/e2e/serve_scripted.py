"""The real server over stdio or TCP, with an engine that says what it is told to.

A model called "held" never finishes a completion.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from engine.config import EngineConfig  # noqa: E402
from lsp_server.server import run_stdio, run_tcp  # noqa: E402
from tests.lsp_server.scripted_engine import ScriptedEngine  # noqa: E402


def make_engine(config: EngineConfig, in_process: bool) -> ScriptedEngine:
    print("a stray print must not reach the client", flush=True)
    engine = ScriptedEngine(config)
    if config.model == "held":
        engine.go_on.clear()
    return engine


if __name__ == "__main__":
    if sys.argv[1:] == ["--tcp"]:
        code = run_tcp(0, None, make_engine, lambda port: print(port, file=sys.stderr, flush=True))
    else:
        code = run_stdio(None, make_engine)
    sys.exit(code)
