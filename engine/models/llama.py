"""Llama and its relatives (SmolLM2 among them): rotary pairs of neighbours."""

from functools import partial

from engine.models.blocks import dense_decoder

build = partial(dense_decoder, is_neox=False)
