"""Anything that can answer looks the same: one protocol for models, prompts and baselines."""
