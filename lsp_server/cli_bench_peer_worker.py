"""Runs llama.cpp for `cli_bench_peer.py`, in an interpreter with llama_cpp (cli_bench_worker.py).

Imports nothing of flash-lsp.
"""

import ctypes
import importlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np

llama_cpp: Any = importlib.import_module("llama_cpp")  # no dependency of ours, so not type-checked

FLASH_ATTENTION = {None: -1, False: 0, True: 1}  # llama.cpp's auto, disabled and enabled


class Peer:
    """One loaded model and one context; every request computes a fresh sequence."""

    def __init__(self) -> None:
        self.context: Any = None
        self.model: Any = None
        self.kept_ids: list[int] | None = None  # what the context holds, if verify computed it

    def load(
        self,
        model: str,
        n_threads: int,
        n_ctx: int,
        n_batch: int = 512,
        flash_attention: bool | None = None,
    ) -> dict[str, Any]:
        """`n_batch` is how many tokens llama.cpp computes in one step."""
        self.model = llama_cpp.llama_model_load_from_file(
            model.encode(), llama_cpp.llama_model_default_params()
        )
        if not self.model:
            raise RuntimeError(f"llama.cpp could not load {model}")
        self.vocabulary = llama_cpp.llama_model_get_vocab(self.model)
        self.n_vocab = llama_cpp.llama_vocab_n_tokens(self.vocabulary)
        self.n_batch = n_batch
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = n_ctx
        params.n_batch = params.n_ubatch = n_batch
        params.n_threads = params.n_threads_batch = n_threads
        params.flash_attn_type = FLASH_ATTENTION[flash_attention]
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        if not self.context:
            raise RuntimeError(f"llama.cpp could not make a context of {n_ctx} tokens")
        self.batch = llama_cpp.llama_batch_init(n_batch, 0, 1)
        return {
            "n_vocab": self.n_vocab,
            "version": f"llama-cpp-python {llama_cpp.__version__}",
            "system": llama_cpp.llama_print_system_info().decode(),
        }

    def tokenize(self, text: str) -> dict[str, Any]:
        """Plain text: no special tokens are recognised, none added."""
        encoded = text.encode()
        ids = (ctypes.c_int32 * (len(encoded) + 8))()
        n_tokens = llama_cpp.llama_tokenize(
            self.vocabulary, encoded, len(encoded), ids, len(ids), False, False
        )
        return {"ids": list(ids[:n_tokens])}

    def prefill(self, ids: list[int]) -> dict[str, Any]:
        """Compute a prompt, with the logits of its last token only."""
        self._clear()
        start_s = time.perf_counter()
        self._append(ids, 0, all_logits=False)
        self._argmax()
        return {"ms": (time.perf_counter() - start_s) * 1e3}

    def decode(self, ids: list[int], n_tokens: int) -> dict[str, Any]:
        """Greedy tokens after a prompt, whose own time is not counted."""
        self._clear()
        self._append(ids, 0, all_logits=False)
        tokens = [self._argmax()]
        start_s = time.perf_counter()
        for n_past in range(len(ids), len(ids) + n_tokens):
            self._append(tokens[-1:], n_past, all_logits=False)
            tokens.append(self._argmax())
        return {"ms": (time.perf_counter() - start_s) * 1e3, "tokens": tokens[1:]}

    def verify(self, ids: list[int], rows: list[int], n_steps: int) -> dict[str, Any]:
        """Steps over `rows` after a prompt that is kept from call to call; the time of one step.

        Every row's logits are computed. Choosing tokens from them is not counted.
        """
        if self.kept_ids != ids:
            self._clear()
            self._append(ids, 0, all_logits=False)
            self.kept_ids = ids
        memory = llama_cpp.llama_get_memory(self.context)
        start_s = time.perf_counter()
        for _ in range(n_steps):
            self._append(rows, len(ids), all_logits=True)
            llama_cpp.llama_get_logits(self.context)  # waits for them
            if not llama_cpp.llama_memory_seq_rm(memory, 0, len(ids), -1):
                raise RuntimeError("llama.cpp cannot take back tokens of this model's sequences")
        return {"ms": (time.perf_counter() - start_s) * 1e3 / n_steps}

    def logits(self, ids: list[int], path: str) -> dict[str, Any]:
        """Write the logits of every token to an .npy file: (len(ids), n_vocab) float32."""
        self._clear()
        rows = np.empty((len(ids), self.n_vocab), np.float32)
        for start in range(0, len(ids), self.n_batch):
            chunk = ids[start : start + self.n_batch]
            self._append(chunk, start, all_logits=True)
            pointer = llama_cpp.llama_get_logits(self.context)
            rows[start : start + len(chunk)] = np.ctypeslib.as_array(
                pointer, (len(chunk), self.n_vocab)
            )
        np.save(path, rows)
        return {"n_rows": len(ids)}

    def _clear(self) -> None:
        self.kept_ids = None
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), False)

    def _append(self, ids: list[int], n_past: int, all_logits: bool) -> None:
        for start in range(0, len(ids), self.n_batch):
            chunk = ids[start : start + self.n_batch]
            self.batch.n_tokens = len(chunk)
            for row_idx, token in enumerate(chunk):
                self.batch.token[row_idx] = token
                self.batch.pos[row_idx] = n_past + start + row_idx
                self.batch.n_seq_id[row_idx] = 1
                self.batch.seq_id[row_idx][0] = 0
                is_last = start + row_idx == len(ids) - 1
                self.batch.logits[row_idx] = all_logits or is_last
            status = llama_cpp.llama_decode(self.context, self.batch)
            if status != 0:
                raise RuntimeError(f"llama_decode returned {status}, expected 0")

    def _argmax(self) -> int:
        pointer = llama_cpp.llama_get_logits_ith(self.context, -1)
        return int(np.ctypeslib.as_array(pointer, (self.n_vocab,)).argmax())


def operations() -> dict[str, Callable[..., dict[str, Any]]]:
    """What a fresh worker answers, by name."""
    peer = Peer()
    return {
        "load": peer.load,
        "tokenize": peer.tokenize,
        "prefill": peer.prefill,
        "decode": peer.decode,
        "verify": peer.verify,
        "logits": peer.logits,
    }
