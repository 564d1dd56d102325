"""LlamaCpp: llama.cpp in a process of its own, as the baseline that our engine is measured against.

A process of its own, so that the two engines never share threads, and so that llama_cpp may live
in another Python environment than ours.
"""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Self

_WORKER = Path(__file__).with_name("cli_bench_worker.py")
_SHOWN_LINES = 2  # of what a failed peer printed
_TELLING, _HARMLESS = ("error", "assert", "abort", "failed"), "this warning is normal"


class PeerError(Exception):
    """llama.cpp could not be started, or refused a request."""


def find_python(other_python: str | None, module: str = "llama_cpp") -> str | None:
    """An interpreter that has `module`: `other_python`, else this one, else None.

    Raises PeerError if `other_python` is given and does not have it.
    """
    if other_python is None:
        return sys.executable if importlib.util.find_spec(module) else None
    check = f"import importlib.util as u, sys; sys.exit(u.find_spec('{module}') is None)"
    try:
        status = subprocess.run([other_python, "-c", check], check=False).returncode
    except OSError as error:
        raise PeerError(f"could not run {other_python}: {error.strerror}") from error
    if status != 0:
        package = module.replace("llama_cpp", "llama-cpp-python")
        raise PeerError(f"{other_python} has no module {module}; install {package} there")
    return other_python


class PeerProcess:
    """A worker in another interpreter that answers JSON lines; a context manager."""

    def __init__(self, python: str, module: str, **load: object) -> None:
        """`module` is the worker's, `load` what it is to load. Raises PeerError."""
        # What llama.cpp prints, to say why it failed; `close` closes it.
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [python, str(_WORKER), module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, "GGML_NO_BACKTRACE": "1"},  # no debugger when it aborts
            text=True,
        )
        try:
            self.loaded = self.ask("load", **load)
        except PeerError:
            self.close()
            raise
        self.version = str(self.loaded["version"])

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process and wait for it."""
        self._process.communicate()
        self._log.close()

    def ask(self, operation: str, **arguments: object) -> dict[str, Any]:
        """The worker's reply. Raises PeerError, with what llama.cpp printed about it."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        try:
            stdin.write(json.dumps({"op": operation, **arguments}) + "\n")
            stdin.flush()
            line = stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise PeerError(f"llama.cpp's process ended during '{operation}'{self._reasons()}")
        reply = json.loads(line)
        if "error" in reply:
            raise PeerError(f"llama.cpp, {operation}: {reply['error']}{self._reasons()}")
        return reply

    def _reasons(self) -> str:
        """The last lines it printed that sound like a failure."""
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").splitlines()
        telling = [
            line.strip()
            for line in lines
            if any(word in line.lower() for word in _TELLING) and _HARMLESS not in line
        ]
        return "".join(f"\n  {line}" for line in telling[-_SHOWN_LINES:])


class LlamaCpp(PeerProcess):
    """A running llama.cpp with one model. Every method raises PeerError."""

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
        super().__init__(
            python,
            "cli_bench_peer_worker",
            model=str(model),
            n_threads=n_threads,
            n_ctx=n_ctx,
            n_batch=n_batch,
            flash_attention=flash_attention,
        )
        self.system = str(self.loaded["system"])

    def tokenize(self, text: str) -> list[int]:
        """Ids of plain text: no special tokens recognised or added."""
        return self.ask("tokenize", text=text)["ids"]

    def prefill_ms(self, ids: list[int]) -> float:
        """Time to compute a prompt from nothing, with the logits of its last token."""
        return self.ask("prefill", ids=ids)["ms"]

    def decode_ms(self, ids: list[int], n_tokens: int) -> float:
        """Time to decode greedily after a prompt, the prompt's own time not counted."""
        return self.ask("decode", ids=ids, n_tokens=n_tokens)["ms"]

    def verify_ms(self, ids: list[int], rows: list[int], n_steps: int) -> float:
        """Mean time of a step over `rows` after a prompt, with every row's logits.

        The prompt is computed once and kept while calls name the same one.
        """
        return self.ask("verify", ids=ids, rows=rows, n_steps=n_steps)["ms"]

    def write_logits(self, ids: list[int], path: Path) -> None:
        """Write the logits of every token to an .npy file: (len(ids), n_vocab) float32."""
        self.ask("logits", ids=ids, path=str(path))
