"""What crosses the engine's boundary: plain data, so a request may come from another process."""

from enum import StrEnum
from typing import Literal, TypeAlias

import msgspec

from engine.config import SamplingConfig, SpeculationMode

# Requests of this priority or a higher number are interrupted by any of a lower one and begun
# again after it; what they had computed by then is mostly found in caches.
BACKGROUND = 100


class PromptPart(msgspec.Struct, frozen=True):
    """A piece of the prompt.

    `is_special` parts name one special token of the vocabulary ("<|fim_prefix|>"); all other text
    is tokenized as plain text, so a file that contains such a name cannot forge the token.
    With `heal`, generation begins inside this part's last token: that token is taken out of the
    prompt and the output is constrained to begin with its text (which is not part of the result).
    At most one part may have it.
    """

    text: str
    is_special: bool = False
    heal: bool = False


class FinishReason(StrEnum):
    STOP = "stop"  # an end token, a stop string, or `on_text` asked for it
    LENGTH = "length"  # max_tokens or the context is used up
    DEADLINE = "deadline"
    CANCELLED = "cancelled"


class GenerateRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One completion to generate.

    `document` groups requests: a newer one supersedes older ones of the same document, which
    finish as CANCELLED. Lower `priority` runs first. `stop` strings end the text and are not part
    of it. `deadline_ms` counts from arrival at the engine; what was decoded by then is returned.

    `references` are texts that the output is likely to repeat, such as the one it replaces, which
    comes first. They are drafted from and never shown to the model: they change the speed, not the
    text. `speculation` None is as the engine was configured; an engine with none stays so.
    With `keep`, the prompt's state is kept on disk as well, if the engine was given room there.
    """

    prompt: tuple[PromptPart, ...]
    max_tokens: int = 128
    stop: tuple[str, ...] = ()
    sampling: SamplingConfig = SamplingConfig()
    document: str | None = None
    priority: int = 0
    deadline_ms: float | None = None
    references: tuple[str, ...] = ()
    speculation: SpeculationMode | None = None
    keep: bool = False


class Timings(msgspec.Struct, kw_only=True):
    """Milliseconds by stage. `total` includes waiting in the queue."""

    queue: float = 0.0
    tokenize: float = 0.0
    prefill: float = 0.0
    decode: float = 0.0
    total: float = 0.0


class SourceCounts(msgspec.Struct, kw_only=True):
    """Drafts of one source: how many were verified, and how many of them were right. One that two
    sources proposed counts for both."""

    proposed: int = 0
    accepted: int = 0


class SpeculationReport(msgspec.Struct, kw_only=True):
    """What drafting did for one request.

    `acceptance_length` is tokens per step. `accepted_lengths[n]` counts the steps of which n drafts
    were accepted, `tree_sizes[n]` those that verified n drafts. `commit_ms` is spent on keeping the
    accepted path, `host_ms` on everything beside models: choosing tokens, text, bookkeeping.
    `plain_ms` estimates what the same tokens would have taken one by one, from measured steps.
    """

    mode: SpeculationMode = "off"
    steps: int = 0
    acceptance_length: float = 0.0
    by_source: dict[str, SourceCounts] = {}
    accepted_lengths: list[int] = []
    tree_sizes: list[int] = []
    draft_ms: float = 0.0
    verify_ms: float = 0.0
    commit_ms: float = 0.0
    host_ms: float = 0.0
    plain_ms: float = 0.0


class GenerateResult(msgspec.Struct, kw_only=True):
    """The text and how it came about. `prompt_tokens` are the ids the model saw, in order;
    `n_cached` of them came from the prefix cache. `tokens` are the generated ids, the end token
    not among them; `n_steps` counts model steps after prefill."""

    text: str
    prompt_tokens: list[int]
    tokens: list[int]
    finish_reason: FinishReason
    timings_ms: Timings
    n_cached: int = 0
    n_steps: int = 0
    speculation: SpeculationReport = msgspec.field(default_factory=SpeculationReport)


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """Whole lines of one file that a prompt may show some of.

    `header` names them to the scorer, the path for example. `prior` in 0..1 is what the caller
    expects of them. `forced` are line ranges [first, end) that are kept before all others, with a
    reason each.
    """

    text: str
    header: str = ""
    prior: float = 0.0
    forced: tuple[tuple[int, int, str], ...] = ()


ScorerMethod: TypeAlias = Literal["incremental", "joint"]


class SelectRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Which lines of `segments`, in the caller's order of preference, help to continue `query`.

    At most `budget_tokens` are kept, and at most `keep_ratio` of all. `scorer` "incremental" keeps
    each segment's keys by content, so that only the end of the query and what changed is computed;
    "joint" runs all of it as one text (SPEC C.2), with block-sparse attention where `alpha` is
    above 0. Nothing is kept where `Selection.pull` is below
    `least_pull`. `document` and `priority` are as in GenerateRequest.
    """

    query: str
    segments: tuple[Segment, ...]
    budget_tokens: int
    keep_ratio: float = 1.0
    scorer: ScorerMethod = "incremental"
    alpha: float = 0.0
    least_pull: float = 0.0
    document: str | None = None
    priority: int = 0


class SelectedSpan(msgspec.Struct, frozen=True):
    """Lines [first, end) of a segment; the spans of a segment are all of its lines, in order.

    `score` is the best line's, in 0..1 relative to the best of all; `reason` is "score", that of a
    forced range, or why it was dropped.
    """

    first: int
    end: int
    n_tokens: int
    score: float
    is_kept: bool
    reason: str


class Selection(msgspec.Struct, kw_only=True):
    """The spans of each segment, and what finding them took.

    `pull` is how much attention the best tokens of the segments draw, beside the best of the text
    before the query's end: 1 is as much, None says that there was too little text. `abstained`
    says why nothing was kept, if nothing was. Keys of `n_reused` of the `n_segments` were there
    already; `n_tokens_run` tokens were computed. `milliseconds` has one entry per stage.
    """

    spans: list[list[SelectedSpan]]
    kept_tokens: int = 0
    total_tokens: int = 0
    pull: float | None = None
    abstained: str | None = None
    scorer: str = ""
    n_segments: int = 0
    n_reused: int = 0
    n_tokens_run: int = 0
    is_cancelled: bool = False
    milliseconds: dict[str, float] = {}


class ModelInfo(msgspec.Struct, kw_only=True, frozen=True):
    """What was loaded. `special_tokens` lists every special token's text in the vocabulary, from
    which a caller decides which prompt forms the model knows. `bos_token` is the one a conversation
    must begin with itself, None where the engine puts it there or none is needed; `eos_token` ends
    a turn. `drafter` is the file of the drafter that was loaded with it."""

    name: str
    path: str
    architecture: str
    n_parameters: int
    n_ctx: int
    n_vocab: int
    weight_bytes: int
    memory_bytes: int
    n_threads: int
    backend: str
    load_ms: float
    special_tokens: tuple[str, ...] = ()
    chat_template: str | None = None
    notices: tuple[str, ...] = ()
    drafter: str | None = None
    bos_token: str | None = None
    eos_token: str | None = None


class EngineStats(msgspec.Struct, kw_only=True):
    """Counters since the model was loaded."""

    n_requests: int = 0
    n_cancelled: int = 0
    n_prompt_tokens: int = 0
    n_cached_tokens: int = 0
    n_tokens: int = 0
    n_steps: int = 0
    n_drafts: int = 0
    n_drafts_accepted: int = 0
    prefill_ms: float = 0.0
    decode_ms: float = 0.0
    draft_ms: float = 0.0
    verify_ms: float = 0.0
    plain_ms: float = 0.0
    cache_bytes: int = 0
    cache_entries: int = 0


class LoadProgress(msgspec.Struct, frozen=True):
    """`fraction` is in 0..1; `message` says what is being done."""

    fraction: float
    message: str
