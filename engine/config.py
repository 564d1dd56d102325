"""What a caller may choose about the engine and about one request's sampling. Plain frozen data."""

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

MOST_TREE_NODES = 63  # with the root they are the bits of one 64-bit mask
# Who may draft tokens ahead of the model: nobody; whatever pays, step by step; a drafter model;
# what the prompt and the text so far repeat. The text is the same whoever does.
SpeculationMode: TypeAlias = Literal["off", "auto", "dflash", "lookup"]
# How the KV cache holds numbers: halves, or bytes with a scale for each group of 32.
KvCacheType: TypeAlias = Literal["f16", "q8_0"]
# Where models run: on the processor, or on a GPU; "auto" is a GPU if there is one that can be used,
# "emulated" is a GPU's kernels on the processor.
BackendName: TypeAlias = Literal["auto", "cpu", "hip", "cuda", "emulated"]


class EngineConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to load a model. Unknown keys are errors.

    `model` is a catalogue name or a path to a GGUF file. `n_threads` None means one per
    physical core of a memory node that has room for the model; more than there are logical
    processors to use are not used. `n_ctx` None means the smaller of the model's own
    limit and 8192 tokens. `is_exact` computes with f32 activations instead of 8-bit ones: many
    times slower, for comparing with other engines.

    `kv_type` "q8_0" almost halves the memory of cached prompts and rounds their keys and values to
    eight bits.

    `speculation` drafts several tokens and verifies them in one step. `tree_budget` fixes how many
    drafts each step has; None lets measured costs decide. `drafter` is a drafter's file; None takes
    the one known for the model, if there is one.

    `scorer` is the model that judges which lines of a repository matter; None takes the first
    layers of the model itself. Its keys are kept within `scorer_memory_bytes`, and between starts
    within `scorer_disk_bytes`. States of prompts that ask for it (`GenerateRequest.keep`) are kept
    on disk within `prefix_disk_bytes`.
    """

    model: str
    n_threads: int | None = None
    n_ctx: int | None = None
    prefix_cache_bytes: int = 512 * 2**20
    models_dir: str | None = None
    is_exact: bool = False
    kv_type: KvCacheType = "f16"
    backend: BackendName = "cpu"
    speculation: SpeculationMode = "auto"
    tree_budget: Annotated[int, Meta(ge=1, le=MOST_TREE_NODES)] | None = None
    drafter: str | None = None
    scorer: str | None = None
    scorer_memory_bytes: int = 128 * 2**20
    scorer_disk_bytes: int = 0
    prefix_disk_bytes: int = 0


class SamplingConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the next token is chosen; temperature 0 is greedy and ignores the rest.

    `top_k` 0 means no limit. The filters apply in the order top_k, top_p, min_p, temperature.
    """

    temperature: float = 0.0
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.0
    seed: int = 0
