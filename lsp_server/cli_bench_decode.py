"""What `flash-lsp bench decode` and `bench edit` measure: the options, the texts they name, and the
rows that come of them.
"""

import argparse
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from engine.config import EngineConfig
from engine.engine import Engine
from lsp_server.cli_bench_contestants import (
    PEER_MODES,
    Field,
    PeerSetup,
    add_own,
    add_servers,
    add_stepped,
)
from lsp_server.cli_bench_edits import edit_texts
from lsp_server.cli_bench_peer import LlamaCpp, find_python
from lsp_server.cli_bench_server import PeerMode
from lsp_server.cli_bench_speculation import Task, rows_of, run_rounds
from lsp_server.cli_bench_texts import (
    SHIPPED,
    BenchText,
    cut_files,
    load_prompts,
    unpredictable_texts,
)
from lsp_server.cli_options import positive

SETS = ("code", "files", "prose", "unpredictable")
_CUTS_PER_FILE = 2
_SPARE_TOKENS = 64  # that a server may want beside the text, for its drafts


def add_decode_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("decode and edit")
    group.add_argument(
        "--prompts", type=Path, metavar="FILE", help="code to go on with, a JSON line each"
    )
    group.add_argument(
        "--files",
        type=Path,
        nargs="+",
        default=[],
        metavar="PATH",
        help="code to cut and go on with",
    )
    group.add_argument(
        "--sets",
        type=_set_names,
        default=SETS,
        metavar="LIST",
        help=f"which texts (default: {','.join(SETS)})",
    )
    group.add_argument("--tokens", type=positive, default=128, metavar="N", help="default: 128")
    group.add_argument(
        "--xllamacpp-python",
        metavar="PYTHON",
        help="an interpreter that has xllamacpp (default: this one, if it does)",
    )
    group.add_argument(
        "--peer-modes",
        type=_peer_modes,
        default=_peer_modes(PEER_MODES),
        metavar="LIST",
        help=f"llama.cpp's speculation, NAME or NAME=DRAFTS (default: {PEER_MODES})",
    )


class DecodeBench:
    """The texts that were asked for, who decodes them, and the rows that come of it. `remarks` and
    `peer_versions` are complete once `rows` was called."""

    def __init__(self, args: argparse.Namespace, config: EngineConfig, plain: Engine) -> None:
        """`plain` is loaded from `config`. Raises RequestError for texts that cannot be read."""
        self._args = args
        self._config = config
        self._plain = plain
        self._field = Field([])
        self._sets = {name: self._fitting(name, texts) for name, texts in self._named().items()}

    @property
    def remarks(self) -> list[str]:
        return self._field.remarks

    @property
    def peer_versions(self) -> list[str]:
        return self._field.versions

    @property
    def most_tokens(self) -> int:
        """What the longest text takes, with room for drafts."""
        tasks = [task for tasks in self._sets.values() for task in tasks]
        return max((_n_tokens(task) + _SPARE_TOKENS for task in tasks), default=0)

    def rows(
        self,
        peer: LlamaCpp | None,
        children: list[int],
        open_things: ExitStack,
        say: Callable[[str], None],
    ) -> list[dict[str, Any]]:
        """Decodes every set by turns. `children` gets the processes that are started; nothing is
        started or loaded if there is nothing to decode."""
        sets = {name: tasks for name, tasks in self._sets.items() if tasks}
        if not sets:
            return []
        self._enter(peer, open_things, say)
        children += self._field.pids
        rows: list[dict[str, Any]] = []
        for name, tasks in sets.items():
            rounds = run_rounds(self._field.contestants, tasks, self._args.runs, say)
            made = rows_of(name, self._plain.info.name, tasks, rounds)
            if not made:
                self.remarks.append(f"{name} was left out: the model ends these texts at once.")
            rows += made
        return rows

    def _named(self) -> dict[str, Sequence[BenchText]]:
        """The texts by the name of their rows."""
        args, named = self._args, dict[str, Sequence[BenchText]]()
        if args.what in ("decode", "all"):
            for name in args.sets:
                named[f"decode {name}"] = _texts(name, args)
        if args.what in ("edit", "all"):
            named["edit"] = edit_texts(self._plain.info.chat_template)
            if not named["edit"]:
                self.remarks.append("edit was left out: the model has no ChatML template.")
        return named

    def _fitting(self, name: str, texts: Sequence[BenchText]) -> list[Task]:
        """Tokenizes texts, without those that are too long for the model."""
        encode, n_ctx = self._plain.encode_prompt, self._plain.info.n_ctx
        tasks = [Task(text, encode(text.prompt).ids, text.max_tokens - 1) for text in texts]
        fitting = [task for task in tasks if _n_tokens(task) <= n_ctx]
        if len(fitting) < len(tasks):
            self.remarks.append(
                f"{name}: {len(tasks) - len(fitting)} of {len(tasks)} texts were left out, they "
                f"take more than the {n_ctx} tokens the model sees."
            )
        return fitting

    def _enter(
        self, peer: LlamaCpp | None, open_things: ExitStack, say: Callable[[str], None]
    ) -> None:
        args, info = self._args, self._plain.info
        drafter = args.drafter
        for engine in add_own(self._field, self._plain, self._config, args.speculation):
            open_things.callback(engine.close)
            drafter = engine.info.drafter or drafter  # the one that ships, if none was named
        if peer is not None:
            add_stepped(self._field, peer)
        python = find_python(args.xllamacpp_python, "xllamacpp")
        if python is None:
            self.remarks.append(
                "llama.cpp's own speculation was left out: xllamacpp is not installed here, and "
                "--xllamacpp-python names no interpreter that has it."
            )
            return
        file = None if drafter is None else Path(drafter)
        setup = PeerSetup(python, Path(info.path), file, info.n_threads, self.most_tokens)
        add_servers(self._field, setup, args.peer_modes, open_things, say)


def _texts(name: str, args: argparse.Namespace) -> Sequence[BenchText]:
    if name == "files":
        return cut_files(args.files, _CUTS_PER_FILE, args.tokens)
    if name == "unpredictable":
        return unpredictable_texts(args.tokens)
    path = args.prompts if name == "code" and args.prompts else SHIPPED / f"{name}.jsonl"
    return load_prompts(path, args.tokens)


def _n_tokens(task: Task) -> int:
    return len(task.ids) + task.text.max_tokens


def _set_names(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    for name in names:
        if name not in SETS:
            raise argparse.ArgumentTypeError(f"'{name}' is none of {', '.join(SETS)}")
    return names


def _peer_modes(text: str) -> tuple[PeerMode, ...]:
    try:
        return tuple(PeerMode.parse(mode) for mode in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
