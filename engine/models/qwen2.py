"""Qwen2 and Qwen2.5 (Coder): as Llama, with q/k/v biases and half-split rotary pairs."""

from engine.gguf.reader import GgufFile
from engine.models.blocks import (
    EMBEDDING,
    Hyperparameters,
    attention_block,
    feed_forward_block,
    output_head,
)
from engine.program import Program


def build(p: Program, g: GgufFile) -> None:
    h = Hyperparameters.from_gguf(g)
    x = p.embed(p.weight(EMBEDDING, h.n_vocab, h.n_embd))  # (T, E)
    for layer in range(h.n_layer):
        x = attention_block(p, h, layer, x, is_neox=True)
        x = feed_forward_block(p, h, layer, x)
        p.layer_outputs.append(x)
    output_head(p, h, x)
