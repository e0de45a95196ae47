"""The learning rate at each step: a pure function."""

from __future__ import annotations


def learning_rate(step: int, *, peak: float, warmup_steps: int, steps: int) -> float:
    """Linear warm-up to `peak` over `warmup_steps`, then linear decay to zero at `steps`. Steps count from 1.

    The first step already moves (peak / warmup_steps) and so does the last.
    """
    if step <= warmup_steps:
        return peak * step / warmup_steps
    return peak * (steps - step + 1) / (steps - warmup_steps + 1)
