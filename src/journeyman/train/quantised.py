"""A frozen base in int8: a quarter of fp32's memory, for bases that would not fit otherwise.

Each row of a weight is kept in 255 steps of its own, of the size that reaches its largest value (absolute maximum, the rows'
half of vector-wise quantisation, Dettmers et al. 2022, arXiv:2208.07339, section 3). Products are computed in the
training's precision: a layer's weight is made dense when it is needed, and let go again.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  (the field's usual name)
from transformers.pytorch_utils import Conv1D

STEPS = 127
"""Steps on each side of zero."""


class Int8Linear(nn.Linear):
    """A linear layer whose weight (out x in) is int8, with a step for each output. Not trained."""

    step_O1: torch.Tensor

    def __init__(self, layer: nn.Linear | Conv1D) -> None:
        nn.Module.__init__(self)
        self.transposed = isinstance(layer, Conv1D)
        weight_OI = (layer.weight.T if self.transposed else layer.weight).detach().float()
        self.out_features, self.in_features = weight_OI.shape
        step_O1 = (weight_OI.abs().amax(1, keepdim=True) / STEPS).clamp_min(torch.finfo(torch.float32).tiny)
        self.weight = nn.Parameter((weight_OI / step_O1).round().to(torch.int8), requires_grad=False)
        self.register_buffer("step_O1", step_O1)
        self.bias = layer.bias

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """x W^T + bias."""
        return F.linear(input, dense(self.weight, self.step_O1, input.dtype), self.bias)


def dense(weight: torch.Tensor, step_O1: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor:
    """A weight to multiply with: int8 times its steps, one in oneDNN's tiles in its own order again, any other as it is."""
    if weight.is_mkldnn:
        return weight.to_dense()
    return weight if step_O1 is None else (weight * step_O1).to(dtype)


@torch.no_grad()
def quantise(model: nn.Module) -> None:
    """Put int8 in the place of every linear layer's weight but the output head's, adapters or not."""
    head = model.get_output_embeddings()  # type: ignore[operator]
    found = [
        (path, layer)
        for path, layer in model.named_modules()
        if isinstance(layer, nn.Linear | Conv1D) and not isinstance(layer, Int8Linear) and layer is not head
    ]
    while found:
        path, layer = found.pop()
        parent, _, leaf = path.rpartition(".")
        setattr(model.get_submodule(parent), leaf, Int8Linear(layer))
