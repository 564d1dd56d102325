"""How fast the model reads on this machine, and what of a prompt that leaves time for."""

from engine.request import GenerateResult

# Of the time to the first text, reading what is new may take this share; the rest is for choosing
# the context and for the first tokens.
_READING_SHARE = 0.6
_CHARS_PER_TOKEN = 3.0
_LEAST_TOKENS = 16  # fewer say more about the start of a step than about tokens
_LEAST_CHARS = 128
_NEWEST_SHARE = 0.2


class Pace:
    """Milliseconds per token read, averaged over the latest completions."""

    def __init__(self) -> None:
        self.ms_per_token: float | None = None

    def note(self, result: GenerateResult) -> None:
        n_read = len(result.prompt_tokens) - result.n_cached
        if n_read < _LEAST_TOKENS:
            return
        now = result.timings_ms.prefill / n_read
        before = now if self.ms_per_token is None else self.ms_per_token
        self.ms_per_token = before + _NEWEST_SHARE * (now - before)

    def suffix_chars(self, wanted: int, budget_ms: float) -> int:
        """How much text after the cursor can be read anew at every key within the budget.

        In powers of two, so that it does not change from key to key.
        """
        if self.ms_per_token is None:
            return wanted
        n_chars = _CHARS_PER_TOKEN * _READING_SHARE * budget_ms / max(self.ms_per_token, 1e-6)
        if n_chars >= wanted:
            return wanted
        return min(wanted, max(_LEAST_CHARS, 1 << (int(n_chars).bit_length() - 1)))
