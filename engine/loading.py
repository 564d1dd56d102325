"""From an open GGUF file to a model ready to run: Program, weights, memory plan, KV cache."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from engine import catalogue, memory, weights
from engine.backends import open_backend
from engine.backends.backend import KV_BLOCK_TOKENS, Backend, KvCache, Model
from engine.config import EngineConfig
from engine.errors import DrafterMismatchError, RequestError, UnsupportedModelError
from engine.gguf.reader import GgufFile
from engine.models import ARCHITECTURES, dflash
from engine.models.blocks import EMBEDDING, Probe, head_name
from engine.ops import Weight
from engine.program import Program
from engine.speculation.dflash import DFlashDrafter
from engine.speculation.drafter_file import open_drafter
from engine.speculation.drafter_spec import HEAD, TABLE, DrafterFile
from engine.weights import Tensor, Weights

# Rows of one step whose logits may be asked for: the largest tree.
MOST_OUT_ROWS = 64
DEFAULT_CTX_TOKENS = 8192


@dataclass(frozen=True)
class LoadedModel:
    """What a session needs, and what is told about it."""

    backend: Backend
    model: Model
    drafter: DFlashDrafter | None
    kv: KvCache
    n_blocks: int
    block_bytes: int
    n_ctx: int
    n_parameters: int
    weight_bytes: int
    memory_bytes: int
    notices: list[str] = field(default_factory=list[str])


def load_model(file: GgufFile, config: EngineConfig) -> LoadedModel:
    """Raises ModelFormatError, UnsupportedModelError, DrafterMismatchError, RequestError or
    DeviceMemoryError."""
    backend = open_backend(config)
    tensors = weights.of_gguf(file, backend.is_native)
    drafter_file = _find_drafter(file, config, backend)
    if drafter_file is not None:
        _check_match(drafter_file, tensors)
        tensors.add(dflash.PREFIX, drafter_file.weights)
    program = build_program(file, tensors)
    used = program.weights_used()
    n_parameters = sum(weight.n_out * weight.n_cols for weight in used)
    block_program = None
    if drafter_file is not None:
        block_program = add_drafter(program, drafter_file, tensors)
        _note_theta(drafter_file, file, tensors)
        used = _unique([*program.weights_used(), *block_program.weights_used()])
    n_ctx = _choose_ctx(config, file)
    block_bytes = backend.block_bytes(program.kv_layers, config.kv_type)
    # One full context for the running sequence, and what the cache may hold beside it.
    n_blocks = -(-n_ctx // KV_BLOCK_TOKENS) + 2 + config.prefix_cache_bytes // block_bytes
    used_tensors = [tensors.tensors[weight.name] for weight in used]
    programs = [program] if block_program is None else [program, block_program]
    scratch_bytes = backend.scratch_bytes(programs, n_ctx)
    on_device = backend.weight_bytes(programs)
    plan = _plan_memory(used_tensors, on_device, n_blocks * block_bytes, scratch_bytes)
    plan.check(backend.free_bytes())
    backend.prepare(plan.total_bytes, n_ctx)
    loaded = {weight.name: tensors.tensors[weight.name].load() for weight in used}
    model = backend.model(
        program, loaded, max_rows=backend.prefill_rows, max_out_rows=MOST_OUT_ROWS
    )
    drafter = None
    if drafter_file is not None and block_program is not None:
        n_rows = drafter_file.spec.block_size
        block = backend.model(
            block_program, loaded, max_rows=n_rows, max_out_rows=n_rows, below=model
        )
        drafter = DFlashDrafter.of_file(drafter_file, block)
    models = [model] if drafter is None else [model, drafter.model]
    return LoadedModel(
        backend=backend,
        model=model,
        drafter=drafter,
        kv=backend.kv_cache(program.kv_layers, n_blocks, config.kv_type),
        n_blocks=n_blocks,
        block_bytes=block_bytes,
        n_ctx=n_ctx,
        n_parameters=n_parameters,
        weight_bytes=sum(tensor.n_bytes for tensor in used_tensors),
        memory_bytes=plan.total_bytes + sum(m.arena_bytes for m in models),
        notices=tensors.notices,
    )


def build_program(file: GgufFile, tensors: Weights, probe: Probe | None = None) -> Program:
    """The file's architecture over its tensors, or with a probe as much of it as a scorer needs."""
    build = ARCHITECTURES.get(file.architecture)
    if build is None:
        raise UnsupportedModelError("architecture", file.architecture, sorted(ARCHITECTURES))
    program = Program(str(file.path), tensors.infos)
    build(program, file, probe)
    return program


def _plan_memory(
    tensors: Sequence[Tensor], on_device: int | None, kv_bytes: int, scratch_bytes: int
) -> memory.MemoryPlan:
    if on_device is not None:
        return memory.MemoryPlan(on_device, 0, kv_bytes, scratch_bytes)
    return memory.MemoryPlan(
        weights_bytes=sum(t.n_bytes for t in tensors if t.is_mapped),
        converted_bytes=sum(t.n_bytes for t in tensors if not t.is_mapped),
        kv_bytes=kv_bytes,
        scratch_bytes=scratch_bytes,
    )


# ---- the drafter ----


def _find_drafter(target: GgufFile, config: EngineConfig, backend: Backend) -> DrafterFile | None:
    """The configured drafter, or the one that ships for models of the target's shape."""
    if config.speculation in ("off", "lookup"):
        return None
    if config.drafter is not None:
        return open_drafter(Path(config.drafter).expanduser(), backend.is_native)
    path = catalogue.drafter_of(shape_of(target))
    return None if path is None else open_drafter(path, backend.is_native)


def shape_of(file: GgufFile) -> catalogue.ModelShape:
    table = file.tensors.get(EMBEDDING)
    return catalogue.ModelShape(
        file.architecture,
        file.optional(file.key("block_count"), int) or 0,
        file.optional(file.key("embedding_length"), int) or 0,
        file.optional(file.key("feed_forward_length"), int) or 0,
        table.shape[-1] if table is not None else 0,
    )


def _check_match(drafter: DrafterFile, target: Weights) -> None:
    spec, table = drafter.spec, target.infos.get(EMBEDDING)
    if table is None:
        return  # building the target's Program says so

    def require(holds: bool, detail: str) -> None:
        if not holds:
            raise DrafterMismatchError(drafter.path, detail)

    n_embd, n_vocab = table.n_cols, table.n_out
    require(spec.n_embd == n_embd, f"the drafter is {spec.n_embd} wide, the target {n_embd}")
    require(
        spec.n_vocab in (None, n_vocab),
        f"the drafter is for {spec.n_vocab} tokens, the target has {n_vocab}",
    )
    highest = -1 if spec.vocabulary is None else int(spec.vocabulary.max())
    require(
        0 <= spec.mask_token < n_vocab and highest < n_vocab,
        f"the drafter uses token {max(highest, spec.mask_token)} and mask {spec.mask_token}, "
        f"the target has {n_vocab} tokens",
    )


def add_drafter(program: Program, drafter: DrafterFile, tensors: Weights) -> Program:
    """Completes the target's Program and returns the drafter's own."""
    spec, n_layers = drafter.spec, len(program.layer_outputs)
    # The last layer's output exists for the selected rows only.
    if spec.taps[-1] >= n_layers - 1:
        raise DrafterMismatchError(
            drafter.path,
            f"the drafter taps layer {spec.taps[-1]}, expected at most {n_layers - 2} "
            f"of the target's {n_layers} layers",
        )
    layers = dflash.append_context(program, spec)
    block = Program(str(drafter.path), tensors.infos)
    table = tensors.infos.get(dflash.PREFIX + TABLE) or tensors.infos[EMBEDDING]
    head = tensors.infos.get(dflash.PREFIX + HEAD)
    if head is None:
        head = tensors.infos[head_name(program)]
        if spec.vocabulary is not None:
            head = tensors.add_rows(dflash.PREFIX + "rows", head.name, spec.vocabulary)
    dflash.build_block(block, spec, layers, table, head)
    return block


def _note_theta(drafter: DrafterFile, target: GgufFile, tensors: Weights) -> None:
    """Converters have written wrong ones (SPEC A.2); text stays right, acceptance falls."""
    theta = target.optional(target.key("rope.freq_base"), float)
    if theta is not None and theta != drafter.spec.rope_theta:
        tensors.notices.append(
            f"the drafter's rope theta is {drafter.spec.rope_theta:g}, the target's {theta:g}: "
            "if few drafts are accepted, the drafter's file may be wrong"
        )


def _unique(used: Iterable[Weight]) -> list[Weight]:
    return list({weight.name: weight for weight in used}.values())


def _choose_ctx(config: EngineConfig, file: GgufFile) -> int:
    trained = file.require(file.key("context_length"), int)
    if config.n_ctx is None:
        return min(trained, DEFAULT_CTX_TOKENS)
    if not 1 <= config.n_ctx <= trained:
        raise RequestError(
            f"context of {config.n_ctx} tokens, expected 1..{trained} for this model"
        )
    return config.n_ctx
