"""Every setting, declared once: name, type, default, range, meaning and who may choose it.

Editors send them as `initializationOptions` and as the `flashLsp` section of their configuration;
the command line's options win over both. Nothing a client sends makes the settings unusable: what
is unknown or of the wrong type is a warning, and the default stays.
"""

import difflib
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, TypeAlias, cast

import msgspec
from msgspec import Meta

from engine.catalogue import DEFAULT_MODEL
from engine.config import (
    MOST_TREE_NODES,
    BackendName,
    EngineConfig,
    KvCacheType,
    SamplingConfig,
    SpeculationMode,
)
from lsp_server.context_options import ContextOptions, PflashMode

SECTION = "flashLsp"
NextEditMode: TypeAlias = Literal["auto", "model", "off"]

# A setting that names a file or a program must come from the user, never from a repository.
_MACHINE = {"scope": "machine"}


class Settings(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a user may choose."""

    model: Annotated[
        str,
        Meta(
            min_length=1,
            description="Name of a known model, or the path of a GGUF file.",
            extra_json_schema=_MACHINE,
        ),
    ] = DEFAULT_MODEL
    models_dir: Annotated[
        str | None,
        Meta(
            description="Folder that holds downloaded models; null means the user's data folder.",
            extra_json_schema=_MACHINE,
        ),
    ] = None
    threads: Annotated[
        Annotated[int, Meta(ge=1, le=1024)] | None,
        Meta(description="Threads the model computes with; null means one per physical core."),
    ] = None
    context_tokens: Annotated[
        Annotated[int, Meta(ge=256, le=2**20)] | None,
        Meta(description="Tokens the model can see; null means its own limit, at most 8192."),
    ] = None
    prefix_cache_mebibytes: Annotated[
        int, Meta(ge=0, le=2**20, description="Memory for prompts already read, in MiB.")
    ] = 512
    kv_type: Annotated[
        KvCacheType,
        Meta(
            description='How prompts already read are kept: "f16", or "q8_0" in about half the '
            "memory, with keys and values rounded to eight bits."
        ),
    ] = "f16"
    backend: Annotated[
        BackendName,
        Meta(
            description='Where the model runs: "cpu", a GPU of AMD ("hip") or NVIDIA ("cuda"), or '
            '"auto": a GPU where there is one. One that cannot be used leaves the processor '
            "serving; `flash-lsp doctor` says why.",
        ),
    ] = "cpu"
    speculation: Annotated[
        SpeculationMode,
        Meta(
            description="Who drafts tokens ahead of the model, which changes the speed but never "
            'the text: "auto" is whatever pays, "lookup" what the prompt repeats, "dflash" a '
            'drafter model, "off" nobody.'
        ),
    ] = "auto"
    tree_budget: Annotated[
        Annotated[int, Meta(ge=1, le=MOST_TREE_NODES)] | None,
        Meta(description="Drafts of every step; null means what pays on this machine."),
    ] = None
    drafter: Annotated[
        str | None,
        Meta(
            description="Drafter model file; null means the one known for the model, if any.",
            extra_json_schema=_MACHINE,
        ),
    ] = None
    in_process: Annotated[
        bool,
        Meta(description="Run the model inside the server's process, for debugging only."),
    ] = False
    pflash_mode: Annotated[
        PflashMode,
        Meta(
            description='Show the model what of the repository helps at the cursor: "auto" where '
            'something seems to help, "always", or "off".'
        ),
    ] = "auto"
    pflash_budget_tokens: Annotated[
        int, Meta(ge=64, le=2**17, description="Most tokens of the repository in a prompt.")
    ] = 1024
    pflash_keep_ratio: Annotated[
        float,
        Meta(gt=0, le=1, description="Most of what was looked at that is shown, as a share."),
    ] = 0.3
    pflash_scorer: Annotated[
        str | None,
        Meta(
            description="Model that judges what of the repository helps; null means the first "
            "layers of the model itself.",
            extra_json_schema=_MACHINE,
        ),
    ] = None
    pflash_pinned: Annotated[
        tuple[str, ...],
        Meta(description="Files that are always looked at first, as .gitignore patterns."),
    ] = ()
    pflash_banned: Annotated[
        tuple[str, ...],
        Meta(description="Files that the model is never shown, as .gitignore patterns."),
    ] = ()
    pflash_disk_mebibytes: Annotated[
        int,
        Meta(
            ge=0,
            le=2**20,
            description="Disk space for what was computed of the repository, in MiB: it serves "
            "the next start.",
        ),
    ] = 512
    enabled: Annotated[bool, Meta(description="Offer completions at all.")] = True
    disabled_languages: Annotated[
        tuple[str, ...],
        Meta(description='Language ids in which nothing is offered, such as "markdown".'),
    ] = ()
    multiline: Annotated[bool, Meta(description="Offer more than the rest of the line.")] = True
    max_tokens: Annotated[
        int, Meta(ge=1, le=4096, description="Longest completion, in tokens.")
    ] = 128
    temperature: Annotated[
        float,
        Meta(ge=0, le=2, description="0 always takes the likeliest token; more is more varied."),
    ] = 0.0
    prefix_chars: Annotated[
        int, Meta(ge=64, le=2**16, description="Most text before the cursor the model is shown.")
    ] = 2048
    suffix_chars: Annotated[
        int, Meta(ge=0, le=2**16, description="Most text after the cursor the model is shown.")
    ] = 512
    next_edit: Annotated[
        NextEditMode,
        Meta(
            description='Who foresees your next edit: "auto" is repetitions, and the model where '
            'it was measured to be right; "model" asks any model, "off" nobody.'
        ),
    ] = "auto"
    debounce_ms: Annotated[
        int,
        Meta(
            ge=0,
            le=5000,
            description="Longest wait for your next key before an automatic completion; "
            "none if you type more slowly than that.",
        ),
    ] = 75
    latency_budget_ms: Annotated[
        int,
        Meta(
            ge=20,
            le=60_000,
            description="After this time an automatic completion is offered as far as it has whole "
            "lines; the rest is there when you accept them.",
        ),
    ] = 250
    prefetch: Annotated[
        bool,
        Meta(description="While you read a completion, prepare the one that follows it."),
    ] = True
    candidates: Annotated[
        int,
        Meta(ge=1, le=5, description="Most texts to choose from when a completion is asked for."),
    ] = 3
    deadline_ms: Annotated[
        int,
        Meta(ge=50, le=600_000, description="What is ready after this time is offered as it is."),
    ] = 10_000

    index_enabled: Annotated[
        bool, Meta(description="Index the open folders, for context from other files.")
    ] = True
    index_exclude: Annotated[
        tuple[str, ...],
        Meta(description="Files to leave out of the index besides ignored ones, as in .gitignore."),
    ] = ()
    index_max_files: Annotated[
        int, Meta(ge=1, le=10**6, description="Most files of a folder that are indexed.")
    ] = 50_000

    @property
    def engine_config(self) -> EngineConfig:
        """What the engine is started with; the engine restarts when it changes."""
        return EngineConfig(
            model=self.model,
            n_threads=self.threads,
            n_ctx=self.context_tokens,
            prefix_cache_bytes=self.prefix_cache_mebibytes * 2**20,
            models_dir=self.models_dir,
            kv_type=self.kv_type,
            backend=self.backend,
            speculation=self.speculation,
            tree_budget=self.tree_budget,
            drafter=self.drafter,
            scorer=self.pflash_scorer,
            scorer_disk_bytes=self.pflash_disk_mebibytes * 2**19,
            prefix_disk_bytes=self.pflash_disk_mebibytes * 2**19,
        )

    @property
    def context_options(self) -> ContextOptions:
        """How the repository's part of a prompt is chosen."""
        return ContextOptions(
            mode=self.pflash_mode,
            budget_tokens=self.pflash_budget_tokens,
            keep_ratio=self.pflash_keep_ratio,
            pinned=self.pflash_pinned,
            banned=self.pflash_banned,
            max_prefix_chars=self.prefix_chars,
            max_suffix_chars=self.suffix_chars,
        )

    @property
    def sampling(self) -> SamplingConfig:
        return SamplingConfig(temperature=self.temperature)


_FIELDS = {field.encode_name: field for field in msgspec.structs.fields(Settings)}


def merge(base: Settings, chosen: object, warn: Callable[[str], None]) -> Settings:
    """Put a client's choices over `base`; every choice that cannot be followed is one warning.

    `chosen` is the section's content, or an object that has the section as a key.
    """
    if chosen is None:
        return base
    if not isinstance(chosen, Mapping):
        warn(f"settings were ignored: expected an object, got {type(chosen).__name__}")
        return base
    values = cast("Mapping[str, Any]", chosen)
    if isinstance(section := values.get(SECTION), Mapping):
        values = cast("Mapping[str, Any]", section)
    changes: dict[str, Any] = {}
    for name, value in values.items():
        field = _FIELDS.get(name)
        if field is None:
            warn(_unknown(name))
        elif value is None and field.default is not None:
            continue  # editors send null for a setting nobody has set
        else:
            try:
                changes[field.name] = msgspec.convert(value, field.type)
            except msgspec.ValidationError as error:
                warn(f"setting '{name}' was ignored: {error}")
    return msgspec.structs.replace(base, **changes)


def _unknown(name: str) -> str:
    nearest = difflib.get_close_matches(name, _FIELDS, n=1, cutoff=0.5)
    hint = f"; did you mean '{nearest[0]}'?" if nearest else ""
    return f"unknown setting '{name}' was ignored{hint}"


def json_schema() -> dict[str, Any]:
    """Describe the settings as a JSON schema, one property for each."""
    schema = msgspec.json.schema(Settings)
    return schema["$defs"]["Settings"]


def markdown_table() -> str:
    """Describe the settings as a table for documents."""
    rows = ["| setting | default | meaning |", "|---|---|---|"]
    for name, described in json_schema()["properties"].items():
        default = msgspec.json.encode(described.get("default")).decode()
        rows.append(f"| `{SECTION}.{name}` | `{default}` | {described['description']} |")
    return "\n".join(rows)
