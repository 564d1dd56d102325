"""`flash-lsp demo`: completions on a sample repository, through the real server."""

import argparse
import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Any, cast

import msgspec
from rich.console import Console
from rich.text import Text

from engine import catalogue
from engine.errors import EngineError, ModelNotFoundError, RequestError
from engine.links import child_environment
from lsp_server.cli_models import fetch
from lsp_server.cli_options import Commands, add_model_options
from lsp_server.framing import frame

SAMPLE = Path("examples/sample_repo")
MARK = "▮"  # where the cursor is in a sample file; it is taken out before the server sees the text
_CONTEXT_LINES = 4


def add_parser(commands: Commands) -> None:
    parser = commands.add_parser(
        "demo",
        help="fetch the model and show completions on a sample repository",
        description=f"Completes every file of FOLDER that has a cursor mark {MARK} in it, "
        "through a real language server over stdio.",
    )
    parser.add_argument("folder", nargs="?", type=Path, default=SAMPLE, help="default: %(default)s")
    add_model_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    cases = find_cases(args.folder)
    try:
        catalogue.find(args.model, _models_dir(args))
    except ModelNotFoundError:
        fetch(args.model, _models_dir(args))
    return asyncio.run(_demonstrate(args, cases))


def find_cases(folder: Path) -> list[tuple[Path, str, str]]:
    """Files with a cursor mark: (path, text before it, text after it). Raises RequestError."""
    cases: list[tuple[Path, str, str]] = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix != ".md"):
        before, mark, after = path.read_text("utf-8", errors="replace").partition(MARK)
        if mark:
            cases.append((path, before, after))
    if not cases:
        raise RequestError(
            f"no file in '{folder}' has a cursor mark {MARK}; run this in a clone of flash-lsp, "
            "or name a folder whose files have one"
        )
    return cases


async def _demonstrate(args: argparse.Namespace, cases: list[tuple[Path, str, str]]) -> int:
    console = Console(highlight=False, soft_wrap=True)
    n_offered = 0
    async with _server(args) as server:
        await server.request(
            "initialize",
            {
                "processId": None,
                "rootUri": args.folder.resolve().as_uri(),
                "capabilities": {
                    "general": {"positionEncodings": ["utf-32"]},
                    "textDocument": {"inlineCompletion": {}},
                },
            },
        )
        server.notify("initialized", {})
        for path, before, after in cases:
            started = monotonic()
            text = await _complete(server, path, before, after)
            elapsed_ms = (monotonic() - started) * 1000
            n_offered += bool(text)
            _show(console, path.relative_to(args.folder), before, text, after, elapsed_ms)
        stats = await server.request("flash/stats", None)
        console.print(f"[dim]{_summary(stats)}[/dim]")
    console.print(f"{n_offered} of {len(cases)} places got a completion")
    return 0 if n_offered else 1


async def _complete(server: "_Server", path: Path, before: str, after: str) -> str:
    uri = path.resolve().as_uri()
    document = {"uri": uri, "languageId": "", "version": 1, "text": before + after}
    server.notify("textDocument/didOpen", {"textDocument": document})
    position = {"line": before.count("\n"), "character": len(before.rpartition("\n")[2])}
    result = await server.request(
        "textDocument/inlineCompletion",
        {
            "textDocument": {"uri": uri},
            "position": position,
            "context": {"triggerKind": 1},
        },
    )
    return "".join(item["insertText"] for item in result["items"][:1])


def _show(
    console: Console, path: Path, before: str, text: str, after: str, elapsed_ms: float
) -> None:
    console.rule(f"[bold]{path}[/bold] · {elapsed_ms:.0f} ms", align="left")
    shown = Text("\n".join(before.split("\n")[-_CONTEXT_LINES:]))
    shown.append(text or " (nothing offered)", style="bold green" if text else "yellow")
    shown.append("\n".join(after.split("\n")[:_CONTEXT_LINES]), style="dim")
    console.print(shown)


def _summary(stats: dict[str, Any]) -> str:
    engine = cast("dict[str, float]", stats["engine"])
    n_steps, decode_ms = engine["nTokens"], engine["decodeMs"]
    n_read = engine["nPromptTokens"] - engine["nCachedTokens"]
    prefill_ms = engine["prefillMs"]
    speed = f"{1000 * n_steps / decode_ms:.0f} tok/s" if decode_ms else "no tokens"
    reading = f"{1000 * n_read / prefill_ms:.0f} tok/s" if prefill_ms else "no prompt"
    return f"read {n_read} prompt tokens at {reading}, wrote {n_steps} at {speed}"


class _Server:
    """A client of a server process: requests by id, everything else ignored."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._n_requests = 0

    async def request(self, method: str, params: Any) -> Any:
        self._n_requests += 1
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[self._n_requests] = answer
        self._send({"id": self._n_requests, "method": method, "params": params})
        return await answer

    def notify(self, method: str, params: Any) -> None:
        self._send({"method": method, "params": params})

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        body = {key: value for key, value in message.items() if value is not None}
        self._process.stdin.write(frame(msgspec.json.encode({"jsonrpc": "2.0", **body})))

    async def read(self) -> None:
        """Delivers answers until the server's output ends."""
        output = self._process.stdout
        assert output is not None
        while head := await output.readline():
            n_bytes = int(head.split(b":")[1])
            await output.readline()
            message = msgspec.json.decode(await output.readexactly(n_bytes))
            answer = self._waiting.pop(message.get("id"), None) if "method" not in message else None
            if answer is None:
                continue
            if "error" in message:
                answer.set_exception(EngineError(message["error"]["message"]))
            else:
                answer.set_result(message["result"])
        for answer in self._waiting.values():
            answer.set_exception(EngineError("the server ended before it answered"))


@asynccontextmanager
async def _server(args: argparse.Namespace) -> AsyncGenerator[_Server]:
    command = [sys.executable, "-P", "-m", "lsp_server", "serve", "--model", args.model]
    for option, value in (
        ("--models-dir", args.models_dir),
        ("--threads", args.threads),
        ("--context", args.context),
        ("--kv-type", args.kv_type),
        ("--speculation", args.speculation),
        ("--tree-budget", args.tree_budget),
        ("--drafter", args.drafter),
    ):
        command += [option, str(value)] if value is not None else []
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=child_environment(),
    )
    server = _Server(process)
    reading = asyncio.create_task(server.read())
    try:
        yield server
        await server.request("shutdown", None)
        server.notify("exit", None)
        await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await reading


def _models_dir(args: argparse.Namespace) -> Path | None:
    return Path(args.models_dir) if args.models_dir else None
