"""The oracle: llama and qwen2 forward passes in float64 NumPy, straight from a GGUF file.

Shares no code with the engine. It is slow and keeps no state: every call computes a whole sequence,
and each weight is dequantized when it is used, so that real models fit in memory too.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class ReferenceModel:
    """A model file and its hyperparameters. Dimensions: T tokens, E width, H and K query and
    key-value heads, D head size, F feed-forward width, V vocabulary."""

    def __init__(self, path: Path | str) -> None:
        reader = gguf.GGUFReader(path)
        self.architecture = str(_metadata(reader, "general.architecture"))
        if self.architecture not in ("llama", "qwen2"):
            raise ValueError(f"no reference for the architecture '{self.architecture}'")
        self._tensors = {tensor.name: tensor for tensor in reader.tensors}
        self.n_layers = int(_metadata(reader, f"{self.architecture}.block_count"))
        self.n_heads = int(_metadata(reader, f"{self.architecture}.attention.head_count"))
        self.n_kv_heads = int(_metadata(reader, f"{self.architecture}.attention.head_count_kv"))
        self.rope_theta = float(_metadata(reader, f"{self.architecture}.rope.freq_base"))
        self.rms_eps = float(
            _metadata(reader, f"{self.architecture}.attention.layer_norm_rms_epsilon")
        )

    def logits(self, token_ids: Sequence[int]) -> Array:
        """Next-token logits after every token: (T, V)."""
        x = self.layer_outputs(token_ids)[-1]
        return self._rms_norm(x, "output_norm") @ self.head().T

    def head(self) -> Array:
        """The output matrix (V, E), which may be the embedding's."""
        is_tied = "output.weight" not in self._tensors
        return self._weight("token_embd.weight" if is_tied else "output.weight")

    def layer_outputs(self, token_ids: Sequence[int]) -> list[Array]:
        """The residual stream after every layer, (T, E) each."""
        x = self.embed(token_ids)  # (T, E)
        outputs: list[Array] = []
        for layer_idx in range(self.n_layers):
            block = f"blk.{layer_idx}."
            x = x + self._attention(block, self._rms_norm(x, block + "attn_norm"))
            x = x + self._feed_forward(block, self._rms_norm(x, block + "ffn_norm"))
            outputs.append(x)
        return outputs

    def queries_keys(self, token_ids: Sequence[int], layer_idx: int) -> tuple[Array, Array]:
        """A layer's queries (H, T, D) and keys (K, T, D) before rotation."""
        outputs = [self.embed(token_ids), *self.layer_outputs(token_ids)]
        block = f"blk.{layer_idx}."
        x = self._rms_norm(outputs[layer_idx], block + "attn_norm")
        queries = self._heads(self._linear(x, block + "attn_q"), self.n_heads)
        return queries, self._heads(self._linear(x, block + "attn_k"), self.n_kv_heads)

    def _weight(self, name: str) -> Array:
        tensor = self._tensors[name]
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
        return values.reshape(tensor.shape[::-1]).astype(np.float64)

    def embed(self, token_ids: Sequence[int]) -> Array:
        """Rows of the embedding table: (T, E)."""
        tensor = self._tensors["token_embd.weight"]
        rows = np.ascontiguousarray(tensor.data[list(token_ids)])
        return gguf.dequantize(rows, tensor.tensor_type).astype(np.float64)

    def _linear(self, x: Array, name: str) -> Array:
        y = x @ self._weight(name + ".weight").T
        return y + self._weight(name + ".bias") if name + ".bias" in self._tensors else y

    def _rms_norm(self, x: Array, name: str) -> Array:
        mean_square = np.mean(x * x, axis=-1, keepdims=True)
        return x / np.sqrt(mean_square + self.rms_eps) * self._weight(name + ".weight")

    def _feed_forward(self, block: str, x: Array) -> Array:
        gate = self._linear(x, block + "ffn_gate")  # (T, F)
        silu = gate / (1 + np.exp(-gate))
        return self._linear(silu * self._linear(x, block + "ffn_up"), block + "ffn_down")

    def _attention(self, block: str, x: Array) -> Array:
        """Causal, each group of H / K query heads sharing one key-value head."""
        q = self._rope(self._heads(self._linear(x, block + "attn_q"), self.n_heads))  # (H, T, D)
        k = self._rope(self._heads(self._linear(x, block + "attn_k"), self.n_kv_heads))  # (K, T, D)
        v = self._heads(self._linear(x, block + "attn_v"), self.n_kv_heads)  # (K, T, D)
        k, v = (np.repeat(heads, self.n_heads // self.n_kv_heads, axis=0) for heads in (k, v))
        scores = q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1])  # (H, T, T)
        is_future = np.triu(np.ones(scores.shape[1:], dtype=bool), k=1)
        mixed = softmax(np.where(is_future, -np.inf, scores)) @ v  # (H, T, D)
        return self._linear(mixed.transpose(1, 0, 2).reshape(len(x), -1), block + "attn_output")

    def _heads(self, x: Array, n_heads: int) -> Array:
        return x.reshape(len(x), n_heads, -1).transpose(1, 0, 2)

    def _rope(self, heads: Array) -> Array:
        """Rotate by position: llama pairs neighbours (2i, 2i+1), qwen2 pairs halves (i, i+D/2)."""
        n_tokens, head_size = heads.shape[1:]
        half = head_size // 2
        frequencies: Array = np.power(self.rope_theta, -np.arange(half, dtype=np.float64) / half)
        angles: Array = np.arange(n_tokens, dtype=np.float64)[:, None] * frequencies  # (T, D/2)
        if self.architecture == "llama":
            first, second = np.s_[..., 0::2], np.s_[..., 1::2]
        else:
            first, second = np.s_[..., :half], np.s_[..., half:]
        rotated = np.empty_like(heads)
        rotated[first] = heads[first] * np.cos(angles) - heads[second] * np.sin(angles)
        rotated[second] = heads[first] * np.sin(angles) + heads[second] * np.cos(angles)
        return rotated


def softmax(x: Array) -> Array:
    """Along the last axis."""
    exponentials = np.exp(x - x.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def _metadata(reader: gguf.GGUFReader, key: str) -> Any:
    field = reader.get_field(key)
    if field is None:
        raise ValueError(f"the file has no '{key}'")
    return field.contents()
