"""The texts and llama.cpp token ids that our tokenizer is held to, committed in tests/data.

`benchmarks/references/tokenizer_reference.py --write` writes the file.
"""

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

REFERENCE_PATH = Path(__file__).parent / "data" / "tokenizer_reference.npz"


@dataclass(frozen=True)
class TokenizerReference:
    """`ids` are, by model name, the ids of each of `texts`."""

    texts: list[str]
    ids: dict[str, list[list[int]]]

    def save(self) -> None:
        arrays: dict[str, Any] = {"texts": np.frombuffer(json.dumps(self.texts).encode(), np.uint8)}
        for model, ids in self.ids.items():
            arrays[f"{model}.lengths"] = np.array([len(each) for each in ids], np.uint32)
            arrays[f"{model}.ids"] = np.array([token for each in ids for token in each], np.uint32)
        np.savez_compressed(REFERENCE_PATH, **arrays)

    @classmethod
    def load(cls) -> "TokenizerReference":
        with np.load(REFERENCE_PATH) as file:
            arrays = {name: file[name] for name in file.files}
        ids: dict[str, list[list[int]]] = {}
        for name in arrays:
            if name.endswith(".ids"):
                model = name.removesuffix(".ids")
                ends = np.cumsum(arrays[f"{model}.lengths"]).tolist()
                tokens = arrays[name].tolist()
                ids[model] = [tokens[start:end] for start, end in pairwise([0, *ends])]
        return cls(json.loads(arrays["texts"].tobytes()), ids)
