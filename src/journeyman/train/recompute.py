"""Layers whose activations are computed again in backward instead of being kept (Chen et al. 2016, arXiv:1604.06174).

Only each layer's input is kept: memory for one more pass forwards. Where a GPU has no room for these either they wait in
the computer's own memory. The plan asks for it where a training would not fit otherwise.
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

Forward = Callable[..., torch.Tensor]


def recompute(model: nn.Module, first: int = 0, *, offload: bool = False) -> None:
    """From layer `first` on, all but the last layer, which backward needs at once. Raises TrainingError in a family it can't.

    With `offload` the layers' inputs are kept outside of the GPU's memory.
    """
    layers = decoder_layers(model)
    if layers is None:
        raise TrainingError(
            "the layers of this family are not known, so that what does not fit into memory can't be computed again",
            fix="take fewer --max-tokens, or a smaller base",
        )
    for layer in layers[first:-1]:
        layer.forward = _again(layer.forward, _offloaded(layer) if offload else _kept)


def _again(forward: Forward, through: Callable[[Forward, torch.Tensor], torch.Tensor]) -> Forward:
    def recomputed(hidden: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if not torch.is_grad_enabled():
            return forward(hidden, *args, **kwargs)
        # Backward comes after the blocks that say how this pass attends (train/attention.py:attending) were left.
        context = contextvars.copy_context()
        return through(lambda x: context.copy().run(forward, x, *args, **kwargs), hidden)

    return recomputed


def _kept(forward: Forward, hidden: torch.Tensor) -> torch.Tensor:
    out: torch.Tensor = checkpoint(forward, hidden, use_reentrant=False, preserve_rng_state=False)
    return out


def _offloaded(layer: nn.Module) -> Callable[[Forward, torch.Tensor], torch.Tensor]:
    def through(forward: Forward, hidden: torch.Tensor) -> torch.Tensor:
        trained = [p for p in layer.parameters() if p.requires_grad]
        out: torch.Tensor = _Offloaded.apply(hidden, forward, *trained)  # type: ignore[no-untyped-call]
        return out

    return through


class _Offloaded(torch.autograd.Function):
    """A layer whose input waits in pinned memory, from where and to where it is copied beside other work."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, forward: Forward, *trained: torch.Tensor) -> torch.Tensor:
        """`trained` are the layer's weights that have gradients."""
        ctx.waiting = torch.empty(hidden.shape, dtype=hidden.dtype, pin_memory=hidden.is_cuda).copy_(hidden, non_blocking=True)
        ctx.device, ctx.forward, ctx.trained = hidden.device, forward, trained
        return forward(hidden)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients of the input, where something before it is trained, and of the weights."""
        hidden = ctx.waiting.to(ctx.device, non_blocking=True).requires_grad_(ctx.needs_input_grad[0])
        with torch.enable_grad():
            out = ctx.forward(hidden)
        wanted = ([hidden] if hidden.requires_grad else []) + list(ctx.trained)
        found = list(torch.autograd.grad(out, wanted, grad, allow_unused=True))
        return (found.pop(0) if hidden.requires_grad else None), None, *found
