"""What a caller may choose about the engine and about one request's sampling. Plain frozen data."""

import msgspec


class EngineConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to load a model. Unknown keys are errors.

    `model` is a catalogue name or a path to a GGUF file. `n_threads` None means one per usable
    core, which is also the most that are used. `n_ctx` None means the smaller of the model's own
    limit and 8192 tokens. `is_exact` computes with f32 activations instead of 8-bit ones: many
    times slower, for comparing with other engines.
    """

    model: str
    n_threads: int | None = None
    n_ctx: int | None = None
    prefix_cache_bytes: int = 512 * 2**20
    models_dir: str | None = None
    is_exact: bool = False


class SamplingConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the next token is chosen; temperature 0 is greedy and ignores the rest.

    `top_k` 0 means no limit. The filters apply in the order top_k, top_p, min_p, temperature.
    """

    temperature: float = 0.0
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.0
    seed: int = 0
