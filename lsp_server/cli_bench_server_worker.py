"""Runs llama.cpp's server for `cli_bench_server.py`, in an interpreter with xllamacpp
(cli_bench_worker.py).

Imports nothing of flash-lsp.
"""

import importlib
import json
import time
from collections.abc import Callable
from typing import Any

xllamacpp: Any = importlib.import_module("xllamacpp")  # no dependency of ours, so not type-checked


class ServerPeer:
    """One server with one model; every request computes a fresh sequence."""

    def __init__(self) -> None:
        self.server: Any = None

    def load(
        self,
        model: str,
        n_threads: int,
        n_ctx: int,
        mode: str,
        n_most: int | None = None,
        drafter: str | None = None,
    ) -> dict[str, Any]:
        """`n_most` is how many tokens are drafted at most."""
        params = xllamacpp.CommonParams()
        params.model.path = model
        params.n_ctx = n_ctx
        params.n_parallel = 1
        params.cache_prompt = False
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = n_threads
        speculative = params.speculative
        speculative.types = [self._type(mode)]
        speculative.draft.cpuparams.n_threads = n_threads
        speculative.draft.cpuparams_batch.n_threads = n_threads
        if drafter is not None:
            speculative.draft.mparams.path = drafter
        if n_most is not None:
            self._limit(speculative, mode, n_most)
        params.speculative = speculative
        self.server = xllamacpp.Server(params)
        return {"version": f"xllamacpp {xllamacpp.__version__}"}

    def generate(self, ids: list[int], n_tokens: int, stop: list[str]) -> dict[str, Any]:
        """Greedy text after a prompt of token ids."""
        start_s = time.perf_counter()
        reply = self.server.handle_completions(
            {
                "prompt": ids,
                "n_predict": n_tokens,
                "temperature": 0,
                "cache_prompt": False,
                "stop": stop,
            }
        )
        wall_ms = (time.perf_counter() - start_s) * 1e3
        if "choices" not in reply:
            raise RuntimeError(f"the server answered {json.dumps(reply)[:200]}")
        timings = reply["timings"]
        return {
            "text": reply["choices"][0]["text"],
            "n_tokens": timings["predicted_n"],
            "ms": timings["predicted_ms"],
            "unaccounted_ms": wall_ms - timings["prompt_ms"] - timings["predicted_ms"],
            "n_drafted": timings.get("draft_n", 0),
            "n_accepted": timings.get("draft_n_accepted", 0),
        }

    def _type(self, mode: str) -> Any:
        prefix = "COMMON_SPECULATIVE_TYPE_"
        types = xllamacpp.common_speculative_type
        name = prefix + mode.upper().replace("-", "_")
        if not hasattr(types, name):
            known = sorted(str(t)[len(prefix) :] for t in dir(types) if t.startswith(prefix))
            names = ", ".join(t.lower().replace("_", "-") for t in known if t != "COUNT")
            raise ValueError(f"there is no speculation '{mode}', expected one of {names}")
        return getattr(types, name)

    def _limit(self, speculative: Any, mode: str, n_most: int) -> None:
        """llama.cpp has a limit of its own for each way of drafting."""
        if mode.startswith("draft-"):
            speculative.draft.n_max = n_most
        elif mode == "ngram-mod":
            speculative.ngram_mod.n_max = n_most
            speculative.ngram_mod.n_min = min(speculative.ngram_mod.n_min, n_most)
        elif mode in ("ngram-simple", "ngram-map-k", "ngram-map-k4v"):
            getattr(speculative, mode.replace("-", "_")).size_m = n_most
        else:
            raise ValueError(f"speculation '{mode}' has no limit to set, got {n_most}")


def operations() -> dict[str, Callable[..., dict[str, Any]]]:
    """What a fresh worker answers, by name."""
    peer = ServerPeer()
    return {"load": peer.load, "generate": peer.generate}
