"""An engine without a model: it answers what a test tells it to."""

import asyncio
from collections.abc import Callable

from engine.client import EngineState, EngineStatus
from engine.config import EngineConfig
from engine.errors import EngineDiedError, EngineError
from engine.request import (
    EngineStats,
    FinishReason,
    GenerateRequest,
    GenerateResult,
    ModelInfo,
    SelectedSpan,
    Selection,
    SelectRequest,
    Timings,
)

CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
INFO = ModelInfo(
    name="fake",
    path="/models/fake.gguf",
    architecture="llama",
    n_parameters=1,
    n_ctx=8192,
    n_vocab=2,
    weight_bytes=1,
    memory_bytes=2,
    n_threads=1,
    backend="none",
    load_ms=1.0,
    special_tokens=(
        *("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
        *("<|im_start|>", "<|im_end|>"),
    ),
    chat_template=CHAT_TEMPLATE,
)


class ScriptedEngine:
    """Generates `text` line by line, or each of `texts` once before that; requests wait while
    `go_on` is clear, and after `n_lines_at_once` until `go_on_writing`."""

    def __init__(self, config: EngineConfig, text: str = "return a + b\n") -> None:
        self.config, self.text = config, text
        self.texts: list[str] = []
        self.prompt_tokens, self.tokens = [1, 2, 3], [4, 5]
        self.on_state: Callable[[EngineStatus], None] | None = None
        self.status = EngineStatus(state=EngineState.STARTING, message="starting")
        self.requests: list[GenerateRequest] = []
        self.selections: list[SelectRequest] = []
        self.n_cancelled = self.n_restarts = 0
        self.n_lines_at_once = 1000
        self.go_on_writing = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.finish_reason = FinishReason.STOP
        self.load_error: EngineError | None = None
        self.generate_error: Exception | None = None

    @property
    def state(self) -> EngineState:
        return self.status.state

    def enter(self, state: EngineState, message: str = "", fraction: float = 0.0) -> None:
        info = INFO if state is EngineState.READY else None
        self.status = EngineStatus(state=state, message=message, fraction=fraction, info=info)
        if self.on_state is not None:
            self.on_state(self.status)

    async def start(self) -> None:
        self.enter(EngineState.LOADING, "reading the weights", 0.0)
        if self.load_error is not None:
            self.enter(EngineState.FAILED, str(self.load_error))
        elif self.config.model != "slow":
            self.enter(EngineState.READY, "ready")

    async def ready(self) -> ModelInfo:
        while self.state not in (EngineState.READY, EngineState.FAILED, EngineState.CLOSED):
            await asyncio.sleep(0.001)
        if self.state is not EngineState.READY:
            raise self.load_error or EngineDiedError("closed")
        return INFO

    async def generate(
        self, request: GenerateRequest, on_text: Callable[[str], bool] | None = None
    ) -> GenerateResult:
        self.requests.append(request)
        await self._until(self.go_on)
        if self.generate_error is not None:
            raise self.generate_error
        said = ""
        text = self.texts.pop(0) if self.texts else self.text
        for n, piece in enumerate(text.splitlines(keepends=True)):
            if n >= self.n_lines_at_once:
                await self._until(self.go_on_writing)
            said += piece
            if on_text is not None and not on_text(piece):
                break
        return GenerateResult(
            text=said,
            prompt_tokens=self.prompt_tokens,
            tokens=self.tokens,
            finish_reason=self.finish_reason,
            timings_ms=Timings(queue=0.5, prefill=10.0, decode=20.0, total=30.5),
            n_cached=1,
            n_steps=2,
        )

    async def _until(self, event: asyncio.Event) -> None:
        try:
            await event.wait()
        except asyncio.CancelledError:
            self.n_cancelled += 1
            raise

    async def select(self, request: SelectRequest) -> Selection:
        """Keeps all of every segment."""
        self.selections.append(request)
        spans = [
            [SelectedSpan(0, len(segment.text.splitlines()), 10, 1.0, True, "score")]
            for segment in request.segments
        ]
        n_tokens = 10 * len(spans)
        return Selection(spans=spans, kept_tokens=n_tokens, total_tokens=n_tokens, pull=1.0)

    async def stats(self) -> EngineStats:
        return EngineStats(n_requests=len(self.requests), n_cancelled=self.n_cancelled)

    async def restart(self) -> None:
        self.n_restarts += 1
        self.load_error = None
        await self.start()

    async def close(self) -> None:
        self.enter(EngineState.CLOSED, "closed")
