"""Layers whose activations are computed again in backward instead of being kept (Chen et al. 2016, arXiv:1604.06174).

Only each layer's input is kept: memory for one more pass forwards. The plan asks for it where a training would not fit otherwise.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from journeyman.errors import TrainingError
from journeyman.train.layers import decoder_layers


def recompute(model: nn.Module, first: int = 0) -> None:
    """From layer `first` on, all but the last layer, which backward needs at once. Raises TrainingError in a family it can't."""
    layers = decoder_layers(model)
    if layers is None:
        raise TrainingError(
            "the layers of this family are not known, so that what does not fit into memory can't be computed again",
            fix="take fewer --max-tokens, or a smaller base",
        )
    for layer in layers[first:-1]:
        layer.forward = _again(layer.forward)


def _again(forward: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    def recomputed(hidden: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if not torch.is_grad_enabled():
            return forward(hidden, *args, **kwargs)
        # Backward comes after the blocks that say how this pass attends (train/attention.py:attending) were left.
        context = contextvars.copy_context()
        out: torch.Tensor = checkpoint(
            lambda x: context.copy().run(forward, x, *args, **kwargs), hidden, use_reentrant=False, preserve_rng_state=False
        )
        return out

    return recomputed
