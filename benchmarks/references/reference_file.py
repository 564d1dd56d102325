"""Reference: what llama.cpp says about fixed windows of code, committed in tests/data/references.

The text is `code.txt.xz`; NOTICE.md names its sources. `logits_reference.py` writes these files.
"""

import json
import lzma
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

WINDOW_TOKENS = 512
N_WINDOWS = 40
LOGITS_WINDOWS = (0, 13, 26, 39)  # 2,048 positions, spread over the text's languages
N_TOP = 8
TINY_TOKENS = (100, 101, 102, 10, 257, 97, 40, 41, 300, 97, 32, 5)  # for tests/tiny_gguf.py


@dataclass(frozen=True, kw_only=True)
class Reference:
    """W windows of tokens, each its own sequence, P = len(logits_windows) * WINDOW_TOKENS.

    `about` says which model file, which llama.cpp, and how far it agrees with itself when only its
    attention is computed another way: no engine can be asked to agree more.
    """

    about: dict[str, Any]
    token_ids: NDArray[np.int32]  # (W, WINDOW_TOKENS)
    nll: NDArray[np.float64]  # (W)
    logits_windows: NDArray[np.int32]  # indices into W
    top_ids: NDArray[np.int32]  # (P, N_TOP), best first
    top_logprobs: NDArray[np.float32]  # (P, N_TOP)
    logsumexp: NDArray[np.float32]  # (P)

    def save(self, path: Path) -> None:
        arrays = {name: value for name, value in vars(self).items() if name != "about"}
        about = np.frombuffer(json.dumps(self.about).encode(), np.uint8)
        np.savez_compressed(path, about=about, **arrays)

    @classmethod
    def load(cls, path: Path) -> "Reference":
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files if name != "about"}
            return cls(about=json.loads(file["about"].tobytes()), **arrays)

    def rows_of(self, window_idx: int) -> slice | None:
        """Where a window's positions lie in `top_ids`, or None if its logits are not kept."""
        places = np.flatnonzero(self.logits_windows == window_idx)
        if not len(places):
            return None
        return slice(int(places[0]) * WINDOW_TOKENS, (int(places[0]) + 1) * WINDOW_TOKENS)


def reference_text(folder: Path) -> str:
    """The fixed text that all references are about."""
    return lzma.decompress((folder / "code.txt.xz").read_bytes()).decode()


def windows_of(token_ids: list[int]) -> NDArray[np.int32]:
    """The text's first tokens as (N_WINDOWS, WINDOW_TOKENS)."""
    kept = np.array(token_ids[: N_WINDOWS * WINDOW_TOKENS], np.int32)
    return kept.reshape(N_WINDOWS, WINDOW_TOKENS)
