"""An engine without a model: what it does is written in the prompt and in the model's name.

Prompts, the texts of all parts joined: `say WORD...` emits the words; `slow N SECONDS` emits N
words with a pause before each; `crash CODE` ends the process; `hang` ignores everything;
`overflow`, `bug` and `lost` raise; `print` writes to the standard output first; `thread` tells the
thread that runs it; `deadline` tells the deadline it was given; `backend` the backend.
Models: `fake`; `missing` cannot be found; `bug`; `lethal` ends the process; `slow` takes a second;
`no-gpu` is refused, and `lethal-gpu` ends the process, by every backend but the processor;
`hang` never loads; `deadly-once:FILE` and `deadly-twice:FILE` count their loads in FILE.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from engine.cancel import CancelToken
from engine.config import EngineConfig
from engine.errors import (
    ContextOverflowError,
    DeviceLostError,
    ModelNotFoundError,
    NativeError,
)
from engine.request import (
    EngineStats,
    FinishReason,
    GenerateRequest,
    GenerateResult,
    LoadProgress,
    ModelInfo,
    PromptPart,
    SelectedSpan,
    Selection,
    SelectRequest,
    Timings,
)

STRAY = "stray" * 4000


def request(prompt: str, **options: object) -> GenerateRequest:
    """A request for the fake."""
    return GenerateRequest(prompt=(PromptPart(prompt),), **options)


class FakeEngine:
    def __init__(self, config: EngineConfig) -> None:
        self.info = _info(config.model, config.backend)
        self._backend = config.backend
        self._stats = EngineStats()
        self.n_calibrated = 0

    def prepare_some(self) -> bool:
        """A model named "calibrating" has two measurements to make, "calibrating:lost" loses its
        device with the second, "calibrating:bad" fails then."""
        self.n_calibrated += 1
        if self.n_calibrated == 2 and self.info.name == "calibrating:lost":
            raise DeviceLostError("calibrating", "it is gone")
        if self.n_calibrated == 2 and self.info.name == "calibrating:bad":
            raise NativeError("calibrating", "a kernel is broken")
        return self.info.name.startswith("calibrating") and self.n_calibrated <= 2

    @classmethod
    def load(
        cls, config: EngineConfig, on_progress: Callable[[LoadProgress], None] | None = None
    ) -> "FakeEngine":
        if on_progress:
            on_progress(LoadProgress(0.25, "reading"))
        name, _, file = config.model.partition(":")
        match name:
            case "missing":
                raise ModelNotFoundError(config.model, "no such file")
            case "bug":
                raise ZeroDivisionError("in the loader")
            case "lethal":
                _die(7)
            case "no-gpu" if config.backend != "cpu":
                raise NativeError("opening the device", "there is none")
            case "lethal-gpu" if config.backend != "cpu":
                _die(9)
            case "slow":
                time.sleep(1)
            case "hang":
                time.sleep(1000)
            case "deadly-once" | "deadly-twice":
                n_loads = _count(Path(file))
                if n_loads <= ("deadly-once", "deadly-twice").index(name) + 1:
                    _die(8)
        if on_progress:
            on_progress(LoadProgress(0.75, "almost there"))
        return cls(config)

    def stats(self) -> EngineStats:
        return self._stats

    def generate(
        self,
        request: GenerateRequest,
        cancel: CancelToken,
        on_text: Callable[[str], bool] | None = None,
    ) -> GenerateResult:
        self._stats.n_requests += 1
        prompt = "".join(part.text for part in request.prompt)
        prompt = f"say {self._backend}" if prompt == "backend" else prompt
        text, reason = "", FinishReason.LENGTH
        for word in _words(prompt, request, cancel):
            if cancel.is_cancelled:
                reason = FinishReason.CANCELLED
                break
            text += word
            self._stats.n_tokens += 1
            if on_text is not None and not on_text(word):
                reason = FinishReason.STOP
                break
        self._stats.n_cancelled += reason is FinishReason.CANCELLED
        return GenerateResult(
            text=text, prompt_tokens=[1], tokens=[2], finish_reason=reason, timings_ms=Timings()
        )

    def select(self, request: SelectRequest, cancel: CancelToken) -> Selection:
        """Keeps every line; the query is a command whose words take their time."""
        for _ in _words(request.query, GenerateRequest(prompt=()), cancel):
            if cancel.is_cancelled:
                return Selection(spans=[], is_cancelled=True)
        spans = [
            [SelectedSpan(0, segment.text.count("\n"), 1, 1.0, True, "score")]
            for segment in request.segments
        ]
        return Selection(spans=spans, kept_tokens=len(spans))

    def close(self) -> None:
        print("fake engine closed", file=sys.stderr, flush=True)


def _words(prompt: str, request: GenerateRequest, cancel: CancelToken) -> Iterator[str]:
    command, *arguments = prompt.split()
    match command:
        case "say":
            yield from arguments
        case "slow":
            woken = threading.Event()
            cancel.on_cancel(woken.set)
            for i in range(int(arguments[0])):
                woken.wait(float(arguments[1]))
                yield f"w{i} "
        case "crash":
            _die(int(arguments[0]))
        case "hang":
            time.sleep(1000)
        case "overflow":
            raise ContextOverflowError(9000, 8192)
        case "bug":
            raise KeyError("a secret of the implementation")
        case "lost":
            raise DeviceLostError("attention", "the device is gone")
        case "print":
            print(STRAY, flush=True)
            os.write(1, b"\xff\xff\xff\x7f")
            yield from arguments
        case "thread":
            yield threading.current_thread().name
        case "deadline":
            yield str(request.deadline_ms)


def _die(code: int) -> None:
    print(f"dying with {code}", file=sys.stderr, flush=True)
    os._exit(code)


def _count(file: Path) -> int:
    n = int(file.read_text()) + 1 if file.exists() else 1
    file.write_text(str(n))
    return n


def _info(name: str, backend: str) -> ModelInfo:
    return ModelInfo(
        name=name,
        path=f"/{name}.gguf",
        architecture="fake",
        n_parameters=1,
        n_ctx=8192,
        n_vocab=3,
        weight_bytes=1,
        memory_bytes=1,
        n_threads=1,
        backend=f"{backend} (fake)",
        load_ms=1.0,
        special_tokens=("<|end|>",),
    )
