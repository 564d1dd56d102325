"""From an open GGUF file to a model ready to run: Program, weights, memory plan, KV cache."""

from dataclasses import dataclass, field

from engine import memory, weights
from engine.backends.cpu import KV_BLOCK_TOKENS, CpuModel, KvCache, native_type
from engine.config import EngineConfig
from engine.errors import RequestError, UnsupportedModelError
from engine.gguf.reader import GgufFile
from engine.models import ARCHITECTURES
from engine.program import Program
from engine.speculation.draft import Drafter

# Rows per prefill step: enough to pay for unpacking the weights, few enough to stay in the cache.
PREFILL_ROWS = 128
# Rows of one step whose logits may be asked for: the largest tree.
MOST_OUT_ROWS = 64
DEFAULT_CTX_TOKENS = 8192


@dataclass(frozen=True)
class LoadedModel:
    """What a session needs, and what is told about it."""

    model: CpuModel
    kv: KvCache
    n_blocks: int
    block_bytes: int
    n_ctx: int
    n_threads: int
    n_parameters: int
    weight_bytes: int
    memory_bytes: int
    drafter: Drafter | None = None
    notices: list[str] = field(default_factory=list[str])


def load_model(file: GgufFile, config: EngineConfig) -> LoadedModel:
    """Raises ModelFormatError, UnsupportedModelError, RequestError or DeviceMemoryError."""
    described = weights.describe(file, native_type)
    program = build_program(file, described)
    used = program.weights_used()
    n_ctx = _choose_ctx(config, file)
    block_bytes = KvCache.bytes_per_block(program.kv_layers)
    # One full context for the running sequence, and what the cache may hold beside it.
    n_blocks = -(-n_ctx // KV_BLOCK_TOKENS) + 2 + config.prefix_cache_bytes // block_bytes
    tensors = [file.tensors[weight.name] for weight in used]
    is_kept = [int(t.ggml_type) == w.type_id for t, w in zip(tensors, used, strict=True)]
    plan = memory.MemoryPlan(
        weights_bytes=sum(t.n_bytes for t, kept in zip(tensors, is_kept, strict=True) if kept),
        converted_bytes=sum(
            w.n_out * weights.row_bytes(w)
            for w, kept in zip(used, is_kept, strict=True)
            if not kept
        ),
        kv_bytes=n_blocks * block_bytes,
    )
    plan.check(memory.available_bytes())
    # More threads than cores would spend the time waiting for each other.
    n_threads = min(config.n_threads or memory.usable_cores(), memory.usable_cores())
    model = CpuModel(
        program,
        {weight.name: weights.load(file, weight) for weight in used},
        n_threads=n_threads,
        max_rows=PREFILL_ROWS,
        max_out_rows=MOST_OUT_ROWS,
        is_exact=config.is_exact,
    )
    return LoadedModel(
        model=model,
        kv=KvCache(program.kv_layers, n_blocks),
        n_blocks=n_blocks,
        block_bytes=block_bytes,
        n_ctx=n_ctx,
        n_threads=n_threads,
        n_parameters=sum(weight.n_out * weight.n_cols for weight in used),
        weight_bytes=sum(tensor.n_bytes for tensor in tensors),
        memory_bytes=plan.total_bytes + model.arena_bytes,
        notices=described.notices,
    )


def build_program(file: GgufFile, described: weights.Weights) -> Program:
    """The file's architecture over its tensors."""
    build = ARCHITECTURES.get(file.architecture)
    if build is None:
        raise UnsupportedModelError("architecture", file.architecture, sorted(ARCHITECTURES))
    program = Program(str(file.path), described.infos)
    build(program, file)
    return program


def _choose_ctx(config: EngineConfig, file: GgufFile) -> int:
    trained = file.require(file.key("context_length"), int)
    if config.n_ctx is None:
        return min(trained, DEFAULT_CTX_TOKENS)
    if not 1 <= config.n_ctx <= trained:
        raise RequestError(
            f"context of {config.n_ctx} tokens, expected 1..{trained} for this model"
        )
    return config.n_ctx
