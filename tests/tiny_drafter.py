"""Tiny random DFlash drafters in every layout we read, and an oracle that shares no code."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as WeightType
from numpy.typing import NDArray

from tests.reference_model import ReferenceModel, softmax
from tests.tiny_gguf import tiny_vocabulary

Array = NDArray[np.float64]

RMS_EPS = 2.0**-20  # the same number in every layout
HF_NAMES = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


@dataclass
class TinyDrafter:
    """Shape and f32 tensors under llama.cpp's names; norms near one, matrices of unit gain."""

    n_embd: int = 128
    n_layer: int = 2
    n_ff: int = 192
    n_head: int = 4
    n_kv: int = 2
    head_dim: int = 16
    taps: tuple[int, ...] = (0, 2)
    block_size: int = 8
    mask_token: int = 9
    rope_theta: float = 10000.0
    window: int | None = None
    sliding: tuple[bool, ...] = ()
    vocabulary: tuple[int, ...] | None = None
    has_head: bool = False  # its own, of the vocabulary's rows, instead of the target's
    n_vocab: int = len(tiny_vocabulary().tokens)
    seed: int = 0
    metadata: dict[str, Any] = field(default_factory=dict)  # more of it
    tensors: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        e, q, kv = self.n_embd, self.n_head * self.head_dim, self.n_kv * self.head_dim
        shapes: dict[str, tuple[int, ...]] = {
            "fc": (e, e * len(self.taps)),
            "enc.output_norm": (e,),
            "output_norm": (e,),
        }
        if self.has_head:
            n_out = self.n_vocab if self.vocabulary is None else len(self.vocabulary)
            shapes["output"] = (n_out, e)
        for layer in range(self.n_layer):
            block = {
                "attn_norm": (e,),
                "ffn_norm": (e,),
                "attn_q_norm": (self.head_dim,),
                "attn_k_norm": (self.head_dim,),
                "attn_q": (q, e),
                "attn_k": (kv, e),
                "attn_v": (kv, e),
                "attn_output": (e, q),
                "ffn_gate": (self.n_ff, e),
                "ffn_up": (self.n_ff, e),
                "ffn_down": (e, self.n_ff),
            }
            shapes |= {f"blk.{layer}.{name}": shape for name, shape in block.items()}
        rng = np.random.default_rng(self.seed)
        for name, shape in shapes.items():
            noise = rng.standard_normal(shape).astype(np.float32)
            is_norm = len(shape) == 1
            value = 1 + 0.1 * noise if is_norm else noise / np.float32(np.sqrt(shape[1]))
            self.tensors[name + ".weight"] = value

    # ---- layouts ----

    def write_llama_cpp(self, path: Path, quant: str = "F32") -> Path:
        writer = gguf.GGUFWriter(path, "dflash")
        writer.add_uint32("dflash.block_size", self.block_size)
        writer.add_array("dflash.target_layers", [tap + 1 for tap in self.taps])
        writer.add_uint32("tokenizer.ggml.mask_token_id", self.mask_token)
        return self._write_gguf(writer, path, "dflash", {}, quant)

    def write_lucebox(self, path: Path, quant: str = "F32") -> Path:
        arch = "qwen35-dflash-draft"
        writer = gguf.GGUFWriter(path, arch)
        writer.add_uint32(f"{arch}.dflash.block_size", self.block_size)
        writer.add_array(f"{arch}.dflash.target_layer_ids", list(self.taps))
        writer.add_uint32(f"{arch}.dflash.mask_token_id", self.mask_token)
        names = {
            "fc.weight": "dflash.fc.weight",
            "enc.output_norm.weight": "dflash_hidden_norm.weight",
            "blk.1.ffn_norm.weight": "blk.1.post_attention_norm.weight",
        }
        return self._write_gguf(writer, path, arch, names, quant)

    def _write_gguf(
        self, writer: gguf.GGUFWriter, path: Path, arch: str, names: dict[str, str], quant: str
    ) -> Path:
        for key, value in {
            "block_count": self.n_layer,
            "embedding_length": self.n_embd,
            "feed_forward_length": self.n_ff,
            "attention.head_count": self.n_head,
            "attention.head_count_kv": self.n_kv,
            "attention.key_length": self.head_dim,
        }.items():
            writer.add_uint32(f"{arch}.{key}", value)
        writer.add_float32(f"{arch}.attention.layer_norm_rms_epsilon", RMS_EPS)
        writer.add_float32(f"{arch}.rope.freq_base", self.rope_theta)
        writer.add_uint32(f"{arch}.vocab_size", self.n_vocab)
        for key, value in self.metadata.items():
            writer.add_key_value(f"{arch}.{key}", value, gguf.GGUFValueType.get_type(value))
        if self.window is not None:
            writer.add_uint32(f"{arch}.attention.sliding_window", self.window)
            writer.add_array(f"{arch}.attention.sliding_window_pattern", list(self.sliding))
        if self.vocabulary is not None and self.has_head:
            writer.add_tensor("d2t", np.array(self.vocabulary, np.int64))
        elif self.vocabulary is not None:
            writer.add_array("flash_lsp.draft_vocabulary", list(self.vocabulary))
        kind = WeightType[quant]
        for name, value in self.tensors.items():
            if value.ndim == 1:
                writer.add_tensor(names.get(name, name), value)
            else:
                packed = gguf.quantize(value, kind)
                writer.add_tensor(names.get(name, name), packed, raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    def write_safetensors(self, folder: Path, dtype: str = "F32") -> Path:
        """A folder as z-lab publishes it."""
        folder.mkdir()
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        content = b""
        for name, value in self.tensors.items():
            data = _as_bytes(value, dtype)
            offsets = [len(content), len(content) + len(data)]
            header[self._hf_name(name)] = {
                "dtype": dtype,
                "shape": list(value.shape),
                "data_offsets": offsets,
            }
            content += data
        encoded = json.dumps(header).encode()
        length = len(encoded).to_bytes(8, "little")
        (folder / "model.safetensors").write_bytes(length + encoded + content)
        config: dict[str, Any] = {
            "architectures": ["DFlashDraftModel"],
            "hidden_size": self.n_embd,
            "num_hidden_layers": self.n_layer,
            "intermediate_size": self.n_ff,
            "num_attention_heads": self.n_head,
            "num_key_value_heads": self.n_kv,
            "head_dim": self.head_dim,
            "rms_norm_eps": RMS_EPS,
            "vocab_size": self.n_vocab,
            "rope_theta": self.rope_theta,
            "block_size": self.block_size,
            "dflash_config": {
                "mask_token_id": self.mask_token,
                "target_layer_ids": list(self.taps),
            },
            **self.metadata,
        }
        if self.window is not None:
            kinds = ["sliding_attention" if s else "full_attention" for s in self.sliding]
            config |= {"layer_types": kinds, "sliding_window": self.window}
            config |= {"use_sliding_window": True}
        (folder / "config.json").write_text(json.dumps(config))
        return folder

    def _hf_name(self, name: str) -> str:
        whole = {
            "fc.weight": "fc.weight",
            "enc.output_norm.weight": "hidden_norm.weight",
            "output_norm.weight": "norm.weight",
        }
        if name in whole:
            return whole[name]
        _, layer, kind, suffix = name.split(".")
        return f"layers.{layer}.{HF_NAMES[kind]}.{suffix}"

    # ---- oracle ----

    def log_probs(self, target: ReferenceModel, tokens: list[int], n_rows: int) -> Array:
        """log-softmax (n_rows - 1, V') of a block after tokens[:-1], tokens[-1] its row 0: SPEC A.4
        as it stands, in float64, nothing cached."""
        outputs = target.layer_outputs(tokens[:-1])
        features = np.concatenate([outputs[tap] for tap in self.taps], axis=1)
        context = self._norm(features @ self._weight("fc").T, "enc.output_norm")
        n_past = len(context)
        block = [tokens[-1]] + [self.mask_token] * (n_rows - 1)
        h = target.embed(block)
        positions = np.arange(n_past + n_rows)
        for layer in range(self.n_layer):
            at = f"blk.{layer}."
            x = self._norm(h, at + "attn_norm")
            q = self._heads(x, at, "attn_q", positions[n_past:])
            keys = self._heads(np.concatenate([context, x]), at, "attn_k", positions)
            values = np.concatenate([context, x]) @ self._weight(at + "attn_v").T
            values = values.reshape(len(values), self.n_kv, self.head_dim)
            group = self.n_head // self.n_kv
            keys, values = np.repeat(keys, group, axis=1), np.repeat(values, group, axis=1)
            scores = np.einsum("qhd,khd->hqk", q, keys) / np.sqrt(self.head_dim)
            scores = np.where(self._visible(layer, n_past, n_rows), scores, -np.inf)
            mixed = np.einsum("hqk,khd->qhd", softmax(scores), values).reshape(n_rows, -1)
            h = h + mixed @ self._weight(at + "attn_output").T
            y = self._norm(h, at + "ffn_norm")
            gate = y @ self._weight(at + "ffn_gate").T
            up = y @ self._weight(at + "ffn_up").T
            h = h + (gate / (1 + np.exp(-gate)) * up) @ self._weight(at + "ffn_down").T
        out = self._norm(h[1:], "output_norm")
        if self.has_head:
            head = self._weight("output")
        else:
            head = target.head()
            head = head if self.vocabulary is None else head[list(self.vocabulary)]
        logits = out @ head.T
        return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))

    def _visible(self, layer: int, n_past: int, n_rows: int) -> NDArray[np.bool_]:
        rows = n_past + np.arange(n_rows)[:, None]
        keys = np.arange(n_past + n_rows)[None]
        if self.window is None or not self.sliding[layer]:
            return np.ones((n_rows, n_past + n_rows), bool)
        return (keys <= rows) & (keys > rows - self.window)

    def _weight(self, name: str) -> Array:
        return self.tensors[name + ".weight"].astype(np.float64)

    def _norm(self, x: Array, name: str) -> Array:
        return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + RMS_EPS) * self._weight(name)

    def _heads(self, x: Array, at: str, name: str, positions: NDArray[np.int64]) -> Array:
        heads = (x @ self._weight(at + name).T).reshape(len(x), -1, self.head_dim)
        heads = self._norm(heads, f"{at}{name}_norm")
        half = self.head_dim // 2
        angles = positions[:, None] * self.rope_theta ** (-np.arange(half) / half)
        cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
        a, b = heads[..., :half], heads[..., half:]
        return np.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)


def _as_bytes(value: NDArray[np.float32], dtype: str) -> bytes:
    if dtype == "BF16":
        return (value.view(np.uint32) >> 16).astype("<u2").tobytes()
    return value.astype({"F32": "<f4", "F16": "<f2"}[dtype]).tobytes()
