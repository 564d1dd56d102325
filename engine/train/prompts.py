"""Prompts cut from a corpus, of the kinds a language server sends: what the target continues.

`prefix` code that just goes on, `stem` code up to an opened function, `fim` code with a gap, `edit`
a request to rewrite code.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.train.corpus import Corpus, Ids

KINDS = ("prefix", "stem", "fim", "edit")
SHARES = (0.4, 0.2, 0.25, 0.15)

_INSTRUCTIONS = (
    "Rewrite the following code so that every function has type annotations or doc comments.",
    "Rename the variables in this code to clearer names and change nothing else.",
    "Refactor this code: handle errors explicitly and keep its behaviour.",
    "Repeat this code with the smallest change that makes it easier to read.",
    "Find the bug in this code and give me the whole corrected code.",
    "Add comments to this code. Answer with the code only.",
    "Convert this code to use early returns. Answer with the code only.",
    "Write unit tests for the following code.",
    "Explain in short what this code does, then improve it.",
    "Complete the following code.",
)
_MASKS = ("<|fim_pad|>", "<|repo_name|>", "<|endoftext|>")
_SYSTEM = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."


@dataclass(frozen=True)
class Templates:
    """Token ids that prompts are put together from. `edits` holds, for each language, pairs of
    what stands before and after the code."""

    mask_id: int  # what stands for a token to be drafted
    fim: tuple[int, int, int] | None  # prefix, suffix, middle
    edits: tuple[tuple[tuple[Ids, Ids], ...], ...]

    def save_arrays(self) -> dict[str, npt.NDArray[np.int32]]:
        arrays = {"mask": np.array([self.mask_id], np.int32)}
        arrays["fim"] = np.array(self.fim or (), np.int32)
        for language, pairs in enumerate(self.edits):
            for index, (head, tail) in enumerate(pairs):
                arrays[f"edit_{language}_{index}_head"] = head
                arrays[f"edit_{language}_{index}_tail"] = tail
        return arrays

    @classmethod
    def from_arrays(cls, arrays: dict[str, npt.NDArray[np.int32]], n_languages: int) -> "Templates":
        fim = arrays["fim"].tolist()

        def pairs(language: int) -> tuple[tuple[Ids, Ids], ...]:
            stems = sorted(
                name.removesuffix("_head")
                for name in arrays
                if name.startswith(f"edit_{language}_") and name.endswith("_head")
            )
            return tuple((arrays[f"{stem}_head"], arrays[f"{stem}_tail"]) for stem in stems)

        return cls(
            int(arrays["mask"][0]),
            (fim[0], fim[1], fim[2]) if fim else None,
            tuple(pairs(language) for language in range(n_languages)),
        )


def make_templates(
    encode: Callable[[str], Sequence[int]], special: dict[str, int], language_names: Sequence[str]
) -> Templates:
    """Templates of the ChatML family, as far as the model has the special tokens for them.

    The mask is a special token that text never holds. Raises ValueError if there is none.
    """
    masks = [special[name] for name in _MASKS if name in special]
    if not masks:
        raise ValueError(f"the vocabulary has none of {', '.join(_MASKS)} to be the mask token")
    fim_names = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")
    fim = [special[name] for name in fim_names if name in special]
    if "<|im_start|>" not in special:
        return Templates(masks[0], None, tuple(() for _ in language_names))
    start, end = special["<|im_start|>"], special["<|im_end|>"]

    def edit(instruction: str, language: str) -> tuple[Ids, Ids]:
        head = [start, *encode(f"system\n{_SYSTEM}"), end, *encode("\n"), start]
        head += encode(f"user\n{instruction}\n\n```{language}\n")
        tail = [*encode("```"), end, *encode("\n"), start, *encode("assistant\n")]
        return np.array(head, np.int32), np.array(tail, np.int32)

    edits = tuple(
        tuple(edit(instruction, language) for instruction in _INSTRUCTIONS)
        for language in language_names
    )
    whole_fim = (fim[0], fim[1], fim[2]) if len(fim) == 3 else None
    return Templates(masks[0], whole_fim, edits)


@dataclass(frozen=True)
class Prompt:
    ids: Ids
    kind: int  # of KINDS
    language: int


class PromptMaker:
    """Draws prompts from the training documents of a corpus, or from those held out."""

    def __init__(
        self,
        corpus: Corpus,
        templates: Templates,
        seed: int,
        *,
        held_out: bool = False,
        language: int | None = None,
    ) -> None:
        self._corpus, self._templates = corpus, templates
        self._rng = np.random.default_rng(seed)
        self._lengths = np.diff(corpus.starts)
        usable = (corpus.held_out == held_out) & (self._lengths >= 64)
        if language is not None:
            usable &= corpus.languages == language
        self._documents = np.flatnonzero(usable)
        if not len(self._documents):
            raise ValueError("the corpus has no documents of at least 64 tokens to draw from")
        self._stems = corpus.stems[usable[corpus.stems[:, 0]]]
        # By the square root: a long file says more, but not in proportion.
        weights = np.sqrt(self._lengths[self._documents])
        self._weights = np.cumsum(weights / weights.sum())

    def draw(self, n: int, n_min: int, n_max: int) -> list[Prompt]:
        """n prompts of n_min..n_max tokens, shorter ones more often."""
        prompts: list[Prompt] = []
        while len(prompts) < n:
            n_tokens = int(np.exp(self._rng.uniform(np.log(n_min), np.log(n_max + 1))))
            kind = int(self._rng.choice(len(KINDS), p=SHARES))
            prompt = self._draw_one(kind, n_tokens)
            if prompt is not None:
                prompts.append(prompt)
        return prompts

    def _draw_one(self, kind: int, n_tokens: int) -> Prompt | None:
        if KINDS[kind] == "stem" and len(self._stems):
            document, end = self._stems[self._rng.integers(len(self._stems))].tolist()
            ids = self._corpus.document(document)[max(0, end - n_tokens) : end]
        else:
            where = np.searchsorted(self._weights, self._rng.random())
            document = int(self._documents[min(int(where), len(self._documents) - 1)])
            text = self._corpus.document(document)
            ids = self._fill(kind, text, n_tokens, int(self._corpus.languages[document]))
        if ids is None or not 24 <= len(ids) <= n_tokens:
            return None
        return Prompt(ids, kind, int(self._corpus.languages[document]))

    def _fill(self, kind: int, text: Ids, n_tokens: int, language: int) -> Ids | None:
        templates, rng = self._templates, self._rng
        if KINDS[kind] == "fim" and templates.fim:
            n_gap = int(rng.integers(4, 80))
            window = self._window(text, n_tokens - 3 + n_gap)
            if len(window) < n_gap + 40:
                return None
            at = int(rng.integers(16, len(window) - n_gap - 8))
            prefix, suffix, middle = templates.fim
            parts = ([prefix], window[:at], [suffix], window[at + n_gap :], [middle])
            return np.concatenate(parts).astype(np.int32)
        if KINDS[kind] == "edit" and templates.edits[language]:
            pairs = templates.edits[language]
            head, tail = pairs[int(rng.integers(len(pairs)))]
            window = self._window(text, n_tokens - len(head) - len(tail))
            return np.concatenate((head, window, tail)) if len(window) >= 24 else None
        return self._window(text, n_tokens)

    def _window(self, text: Ids, n_tokens: int) -> Ids:
        """A run of at most n_tokens ids; a quarter of them from the document's beginning."""
        if n_tokens <= 0:
            return text[:0]
        last = len(text) - n_tokens
        start = int(self._rng.integers(last + 1)) if last > 0 and self._rng.random() > 0.25 else 0
        return text[start : start + n_tokens]
