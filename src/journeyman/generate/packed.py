"""A frozen base whose weights lie in memory as the processor's products want them.

oneDNN multiplies in tiles. A weight in its own order is put in tiles anew in every product, which is lost among many tokens and
is most of the work for few. At Qwen2.5-0.5B's sizes, two cores, `torch.nn.functional.linear` against the same product packed:
bf16 (AVX512-BF16), 16 tokens 0.30 ms instead of 0.49, 135 tokens 1.3 instead of 1.7; fp32 (AVX2), where torch asks MKL, 4 tokens
4.6 instead of 11.7, 16 tokens 7.9 instead of 12.2, 64 tokens 16 instead of 20, 272 the same. The tiles take the weight's place
and hold the same numbers. torch knows this as a step of its compiler (`torch._inductor`, freezing); here it is done without one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

USUAL_TOKENS = 16
"""What oneDNN is told of the number of tokens when it chooses the tiles. Between 1 and 512 none did worse than without packing."""


class PackedLinear(nn.Linear):
    """A linear layer whose weight (out x in) is in oneDNN's tiles. Not trained."""

    weight: torch.Tensor

    def __init__(self, layer: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.register_buffer("weight", torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), USUAL_TOKENS))
        self.bias = layer.bias

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """x W^T + bias."""
        return onednn_linear(input, self.weight, self.bias)

    def onto(self, input: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """x W^T + bias + residual, rounded once."""
        out: torch.Tensor = torch.ops.mkldnn._linear_pointwise.binary(input, residual, self.weight, self.bias, "add")
        return out


class JoinedLinear(PackedLinear):
    """Packed layers of the same input as one, whose output is theirs side by side, of these `widths`; a copy of their weights."""

    def __init__(self, layers: Sequence[PackedLinear]) -> None:
        together = nn.Linear(layers[0].in_features, sum(one.out_features for one in layers), bias=False, device="meta")
        together.weight = nn.Parameter(torch.cat([one.weight.to_dense() for one in layers]), requires_grad=False)
        if layers[0].bias is not None:
            together.bias = nn.Parameter(torch.cat([one.bias for one in layers]).detach(), requires_grad=False)
        super().__init__(together)
        self.widths = [one.out_features for one in layers]


def onednn_linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """x W^T + bias by oneDNN, whether the weight is packed or not.

    For few tokens it is the quicker in fp32 even with a weight that is not: at 151,936 x 896, 16 tokens take a third of MKL's time.
    """
    out: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return out


def can_pack(model: nn.Module) -> bool:
    """Whether products of the model's type gain by it here: with oneDNN in torch, bf16 where the processor multiplies it, fp32 on x86."""
    first = next(model.parameters())
    if (
        first.device.type != "cpu"
        or not torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        or not hasattr(torch.ops.mkldnn, "_linear_pointwise")
    ):
        return False
    if first.dtype == torch.float32:
        return torch.backends.cpu.get_cpu_capability().startswith("AVX")
    return first.dtype == torch.bfloat16 and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


@torch.no_grad()
def pack(model: nn.Module) -> None:
    """Put the packed form in the place of every linear layer but the output head, which often is the embedding too."""
    head = model.get_output_embeddings()  # type: ignore[operator]
    found = [path for path, layer in model.named_modules() if type(layer) is nn.Linear and layer is not head]
    for path in found:
        parent, _, leaf = path.rpartition(".")
        holder = model.get_submodule(parent)
        setattr(holder, leaf, PackedLinear(getattr(holder, leaf)))
