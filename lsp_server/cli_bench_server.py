"""LlamaServer: llama.cpp's own server loop with its own speculation, through xllamacpp.

llama-cpp-python steps llama.cpp token by token; only the server knows how to speculate. Its modes
are llama.cpp's names: "none", "ngram-simple", "draft-dflash", ...
"""

from dataclasses import dataclass
from pathlib import Path

from lsp_server.cli_bench_peer import PeerError, PeerProcess

DRAFTER_MODES = ("draft-dflash",)  # those that need a drafter's file


@dataclass(frozen=True)
class PeerMode:
    """A way of speculating, and the most tokens it drafts; None leaves that to llama.cpp."""

    name: str
    n_most: int | None = None

    @classmethod
    def parse(cls, text: str) -> "PeerMode":
        """NAME or NAME=N. Raises ValueError."""
        name, _, number = text.partition("=")
        if not name or (number and not number.isdecimal()) or text.endswith("="):
            raise ValueError(f"'{text}' is no mode, expected NAME or NAME=N")
        return cls(name, int(number) if number else None)

    def __str__(self) -> str:
        return self.name if self.n_most is None else f"{self.name}={self.n_most}"


@dataclass(frozen=True)
class Generated:
    """What the server made of a prompt, and its own account of it.

    `ms` runs from the prompt's last logits to the last token; `unaccounted_ms` is what the call
    took beyond that and reading the prompt.
    """

    text: str
    n_tokens: int
    ms: float
    unaccounted_ms: float
    n_drafted: int
    n_accepted: int


class LlamaServer(PeerProcess):
    """A running server with one model and one way of speculating."""

    def __init__(
        self,
        python: str,
        model: Path | str,
        n_threads: int,
        n_ctx: int,
        mode: PeerMode,
        drafter: Path | None = None,
    ) -> None:
        """Raises PeerError if llama.cpp cannot run `model` this way, with its reason."""
        super().__init__(
            python,
            "cli_bench_server_worker",
            model=str(model),
            n_threads=n_threads,
            n_ctx=n_ctx,
            mode=mode.name,
            n_most=mode.n_most,
            drafter=None if drafter is None else str(drafter),
        )
        try:
            self.generate([0], 4, ())  # some things only fail in the first step
        except PeerError:
            self.close()
            raise

    def generate(self, ids: list[int], n_tokens: int, stop: tuple[str, ...]) -> Generated:
        """Go on from a prompt greedily. Raises PeerError."""
        reply = self.ask("generate", ids=ids, n_tokens=n_tokens, stop=list(stop))
        return Generated(**reply)
