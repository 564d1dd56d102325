"""Which device an engine lives on after it failed on one. Knows configurations, starts nothing."""

from collections import deque

import msgspec

from engine.config import EngineConfig
from engine.errors import (
    DownloadError,
    EngineError,
    ModelFormatError,
    ModelNotFoundError,
    NoDeviceError,
)

# What no other device would change.
_MODEL_ERRORS = (ModelNotFoundError, ModelFormatError, DownloadError)


class DeviceFallback:
    """Sends an engine from a GPU to the processor when the GPU proves unusable.

    A life that ends on a GPU, by a lost device or by any death, is followed by another on the same
    device; the second such end within `window_s`, or a load that fails there, by one on the
    processor. From then on `reason` says why, until `reset`.
    """

    MOST_ENDS = 2

    def __init__(self, config: EngineConfig, window_s: float = 600.0) -> None:
        self._chosen, self._window_s = config, window_s
        self.reset()

    def reset(self) -> None:
        """Back to the configured device, as if nothing had happened."""
        self.config, self.reason = self._chosen, ""
        self._ends_s: deque[float] = deque()
        self._is_on_gpu = self._chosen.backend != "cpu"

    def note_loaded(self, backend: str) -> None:
        """The backend's name, as `ModelInfo` has it: "auto" may have chosen the processor."""
        self._is_on_gpu = self.config.backend != "cpu" and not backend.startswith("cpu")

    def note_end(self, now_s: float, detail: str) -> bool:
        """Whether this end, which `detail` describes, sends the engine to the processor."""
        if not self._is_on_gpu:
            return False
        self._ends_s.append(now_s)
        while self._ends_s[0] <= now_s - self._window_s:
            self._ends_s.popleft()
        if len(self._ends_s) < self.MOST_ENDS:
            return False
        minutes = round(self._window_s / 60)
        self._fall_back(f"the GPU failed {self.MOST_ENDS} times within {minutes} minutes: {detail}")
        return True

    def note_failed_load(self, error: EngineError) -> bool:
        """Whether this error sends the engine to the processor."""
        if not self._is_on_gpu or isinstance(error, _MODEL_ERRORS):
            return False
        is_clear = isinstance(error, NoDeviceError)
        self._fall_back(str(error) if is_clear else f"the GPU cannot be used: {error}")
        return True

    def _fall_back(self, reason: str) -> None:
        self.config = msgspec.structs.replace(self._chosen, backend="cpu")
        self.reason = f"{reason}; restart the engine to try it again"
        self._is_on_gpu = False
