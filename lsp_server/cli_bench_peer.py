"""LlamaCpp: llama.cpp in a process of its own, as the baseline that our engine is measured against.

A process of its own, so that the two engines never share threads, and so that llama_cpp may live
in another Python environment than ours.
"""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

WORKER = Path(__file__).with_name("cli_bench_peer_worker.py")


class PeerError(Exception):
    """llama.cpp could not be started, or refused a request."""


def find_python(other_python: str | None) -> str | None:
    """An interpreter that has llama_cpp: `other_python`, else this one, else None.

    Raises PeerError if `other_python` is given and does not have it.
    """
    if other_python is None:
        return sys.executable if importlib.util.find_spec("llama_cpp") else None
    check = "import importlib.util as u, sys; sys.exit(u.find_spec('llama_cpp') is None)"
    try:
        status = subprocess.run([other_python, "-c", check], check=False).returncode
    except OSError as error:
        raise PeerError(f"could not run {other_python}: {error.strerror}") from error
    if status != 0:
        raise PeerError(f"{other_python} has no module llama_cpp; install llama-cpp-python there")
    return other_python


class LlamaCpp:
    """A running llama.cpp with one model; a context manager. Every method raises PeerError."""

    def __init__(
        self,
        python: str,
        model: Path | str,
        n_threads: int,
        n_ctx: int,
        *,
        n_batch: int = 512,
        flash_attention: bool | None = None,
    ) -> None:
        """`flash_attention` None leaves the choice to llama.cpp."""
        self._process = subprocess.Popen(
            [python, str(WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            loaded = self._ask(
                "load",
                model=str(model),
                n_threads=n_threads,
                n_ctx=n_ctx,
                n_batch=n_batch,
                flash_attention=flash_attention,
            )
        except PeerError:
            self.close()
            raise
        self.version = str(loaded["version"])
        self.system = str(loaded["system"])

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> "LlamaCpp":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process and wait for it."""
        self._process.communicate()

    def tokenize(self, text: str) -> list[int]:
        """Ids of plain text: no special tokens recognised or added."""
        return self._ask("tokenize", text=text)["ids"]

    def prefill_ms(self, ids: list[int]) -> float:
        """Time to compute a prompt from nothing, with the logits of its last token."""
        return self._ask("prefill", ids=ids)["ms"]

    def decode_ms(self, ids: list[int], n_tokens: int) -> float:
        """Time to decode greedily after a prompt, the prompt's own time not counted."""
        return self._ask("decode", ids=ids, n_tokens=n_tokens)["ms"]

    def verify_ms(self, ids: list[int], rows: list[int], n_steps: int) -> float:
        """Mean time of a step over `rows` after a prompt, with every row's logits.

        The prompt is computed once and kept while calls name the same one.
        """
        return self._ask("verify", ids=ids, rows=rows, n_steps=n_steps)["ms"]

    def write_logits(self, ids: list[int], path: Path) -> None:
        """Write the logits of every token to an .npy file: (len(ids), n_vocab) float32."""
        self._ask("logits", ids=ids, path=str(path))

    def _ask(self, operation: str, **arguments: object) -> dict[str, Any]:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        try:
            stdin.write(json.dumps({"op": operation, **arguments}) + "\n")
            stdin.flush()
            line = stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise PeerError(f"llama.cpp's process ended during '{operation}'")
        reply = json.loads(line)
        if "error" in reply:
            raise PeerError(f"llama.cpp, {operation}: {reply['error']}")
        return reply
