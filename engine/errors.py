"""Every error the engine raises on purpose; anything else that escapes is a bug of ours.

EngineError
 |- ModelNotFoundError      no such catalogue name or file              (name, reason)
 |- ModelFormatError        the file is not a readable GGUF             (path, detail)
 |- UnsupportedModelError   readable, but we lack something             (what, value, supported)
 |- DrafterMismatchError    a drafter made for another target           (drafter, detail)
 |- DownloadError           a model could not be fetched                (name, detail)
 |- ContextOverflowError    prompt longer than the context              (n_tokens, limit_tokens)
 |- NoDeviceError           the GPU asked for cannot be used            (what, do)
 |- DeviceMemoryError       the memory plan does not fit      (asked_bytes, free_bytes, plan)
 |- RequestError            a request asks for something impossible     (detail)
 |- EngineBusyError         the queue is full                           (n_waiting)
 |- EngineDiedError         the engine's child process ended            (detail)
 `- NativeError             a kernel refused its arguments or failed    (op, detail)
     |- CompileError        a GPU's kernels were refused by its compiler  (detail)
     `- DeviceLostError     the device is unusable; the engine must be rebuilt

Messages are lower case without a full stop; they say what was found, what was expected and what
to do. Cancellation is not an error: it is `FinishReason.CANCELLED`.
"""

from collections.abc import Sequence
from pathlib import Path


class EngineError(Exception):
    """Base of all engine errors; `str(error)` is fit to be shown to a user."""


class ModelNotFoundError(EngineError):
    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"model '{name}' was not found: {reason}")
        self.name, self.reason = name, reason


class ModelFormatError(EngineError):
    def __init__(self, path: Path | str, detail: str, kind: str = "GGUF") -> None:
        super().__init__(f"{path}: not a readable {kind} file: {detail}")
        self.path, self.detail = path, detail


class UnsupportedModelError(EngineError):
    def __init__(self, what: str, value: object, supported: Sequence[str]) -> None:
        super().__init__(f"{what} '{value}' is not supported; supported: {', '.join(supported)}")
        self.what, self.value, self.supported = what, value, tuple(supported)


class DrafterMismatchError(EngineError):
    def __init__(self, drafter: Path | str, detail: str) -> None:
        super().__init__(
            f"drafter {drafter} does not match its target: {detail}; "
            "use one that was trained for this model, or speculation 'lookup'"
        )
        self.drafter, self.detail = drafter, detail


class DownloadError(EngineError):
    def __init__(self, name: str, detail: str) -> None:
        super().__init__(f"could not fetch model '{name}': {detail}")
        self.name, self.detail = name, detail


class ContextOverflowError(EngineError):
    def __init__(self, n_tokens: int, limit_tokens: int) -> None:
        super().__init__(
            f"{n_tokens} tokens do not fit the context of {limit_tokens}; "
            "shorten the prompt or raise the context size"
        )
        self.n_tokens, self.limit_tokens = n_tokens, limit_tokens


class NoDeviceError(EngineError):
    def __init__(self, what: str, do: str) -> None:
        super().__init__(f"no GPU can be used: {what}; {do}")
        self.what, self.do = what, do


class DeviceMemoryError(EngineError):
    def __init__(self, asked_bytes: int, free_bytes: int, plan: str) -> None:
        super().__init__(
            f"needs {asked_bytes / 2**20:.0f} MiB but {free_bytes / 2**20:.0f} MiB are free "
            f"({plan}); choose a smaller model or context"
        )
        self.asked_bytes, self.free_bytes, self.plan = asked_bytes, free_bytes, plan


class RequestError(EngineError):
    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class EngineBusyError(EngineError):
    def __init__(self, n_waiting: int) -> None:
        super().__init__(f"{n_waiting} requests are already waiting; try again when some are done")
        self.n_waiting = n_waiting


class EngineDiedError(EngineError):
    def __init__(self, detail: str) -> None:
        super().__init__(f"the engine process ended ({detail}); it restarts by itself")
        self.detail = detail


class NativeError(EngineError):
    def __init__(self, op: str, detail: str) -> None:
        super().__init__(f"{op}: {detail}")
        self.op, self.detail = op, detail


class CompileError(NativeError):
    """`detail` holds the compiler's first errors."""

    def __init__(self, detail: str) -> None:
        super().__init__("compiling the GPU kernels", detail)


class DeviceLostError(NativeError):
    """The device is unusable; the engine must be rebuilt."""
