"""Trains a block-diffusion drafter for a target model. Needs the extra `train`; no engine at run
time imports it."""
