"""Qwen2 and Qwen2.5 (Coder): as Llama, with q/k/v biases and half-split rotary pairs."""

from functools import partial

from engine.models.blocks import dense_decoder

build = partial(dense_decoder, is_neox=True)  # biases are used where the file has them
