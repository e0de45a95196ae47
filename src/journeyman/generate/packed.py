"""A frozen base in bf16 whose weights lie in memory as the processor's products want them.

oneDNN multiplies bf16 in tiles. A weight in its own order is put in tiles anew in every product, which is lost among many
tokens and is most of the work for few: at Qwen2.5-0.5B's sizes, 16 tokens take 0.30 ms instead of 0.49, and 135 take 1.3
instead of 1.7 (two cores, `torch.nn.functional.linear` against the same product packed). The tiles take the weight's place and
hold the same numbers. torch knows this as a step of its compiler (`torch._inductor`, freezing); here it is done without one.
"""

from __future__ import annotations

import torch
from torch import nn

USUAL_TOKENS = 16
"""What oneDNN is told of the number of tokens when it chooses the tiles. Between 1 and 512 none did worse than without packing."""


class PackedLinear(nn.Linear):
    """A linear layer whose weight (out x in, bf16) is in oneDNN's tiles. Not trained."""

    weight: torch.Tensor

    def __init__(self, layer: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.register_buffer("weight", torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), USUAL_TOKENS))
        self.bias = layer.bias

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """x W^T + bias."""
        out: torch.Tensor = torch.ops.mkldnn._linear_pointwise(input, self.weight, self.bias, "none", [], "")
        return out

    def onto(self, input: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """x W^T + bias + residual, rounded once."""
        out: torch.Tensor = torch.ops.mkldnn._linear_pointwise.binary(input, residual, self.weight, self.bias, "add")
        return out


def can_pack(model: nn.Module) -> bool:
    """Whether products of the model's type gain by it here: bf16 on a processor that multiplies it, with oneDNN in torch."""
    first = next(model.parameters())
    return (
        first.device.type == "cpu"
        and first.dtype == torch.bfloat16
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    )


@torch.no_grad()
def pack(model: nn.Module) -> None:
    """Put the packed form in the place of every linear layer but the output head, which often is the embedding too."""
    head = model.get_output_embeddings()  # type: ignore[operator]
    found = [path for path, layer in model.named_modules() if type(layer) is nn.Linear and layer is not head]
    for path in found:
        parent, _, leaf = path.rpartition(".")
        holder = model.get_submodule(parent)
        setattr(holder, leaf, PackedLinear(getattr(holder, leaf)))
