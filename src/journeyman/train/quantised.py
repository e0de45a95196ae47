"""A frozen base in fewer bits, for bases that would not fit otherwise: int8 and fp8 take a byte a weight, nf4 about half of one.

Products are computed in the training's precision: a layer's weight is made dense when it is needed, and let go again.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  (the field's usual name)
from transformers.pytorch_utils import Conv1D


class QuantisedLinear(nn.Linear):
    """A linear layer whose weight (out x in) is held in fewer bits than it is multiplied with. Not trained."""

    weight: nn.Parameter

    def __init__(self, layer: nn.Linear | Conv1D) -> None:
        nn.Module.__init__(self)
        self.transposed = isinstance(layer, Conv1D)
        weight_OI = (layer.weight.T if self.transposed else layer.weight).detach().float().contiguous()
        self.out_features, self.in_features = weight_OI.shape
        self.weight = nn.Parameter(self._hold(weight_OI), requires_grad=False)
        self.bias = layer.bias

    def _hold(self, weight_OI: torch.Tensor) -> torch.Tensor:
        """The weight in few bits; what else is needed to read it becomes buffers of fp32."""
        raise NotImplementedError

    def dense(self, dtype: torch.dtype) -> torch.Tensor:
        """The weight, out x in, to multiply with."""
        raise NotImplementedError

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """x W^T + bias."""
        return F.linear(input, self.dense(input.dtype), self.bias)


class Int8Linear(QuantisedLinear):
    """Each row in 255 steps of its own, of the size that reaches its largest value.

    Absolute maximum, the rows' half of vector-wise quantisation (Dettmers et al. 2022, arXiv:2208.07339, section 3).
    """

    STEPS = 127
    """Steps on each side of zero."""

    step_O1: torch.Tensor

    def _hold(self, weight_OI: torch.Tensor) -> torch.Tensor:
        self.register_buffer("step_O1", _steps(weight_OI, self.STEPS))
        return (weight_OI / self.step_O1).round().to(torch.int8)

    def dense(self, dtype: torch.dtype) -> torch.Tensor:
        """See QuantisedLinear."""
        return (self.weight * self.step_O1).to(dtype)


class Fp8Linear(QuantisedLinear):
    """Each row in floating point of 8 bits, four for the exponent, scaled so that its largest value is the largest there is.

    Small weights keep three binary digits of their own, where int8's steps are as wide as those of large ones (e4m3,
    Micikevicius et al. 2022, arXiv:2209.05433, section 3).
    """

    LARGEST = 448.0
    """The largest number of e4m3."""

    step_O1: torch.Tensor

    def _hold(self, weight_OI: torch.Tensor) -> torch.Tensor:
        self.register_buffer("step_O1", _steps(weight_OI, self.LARGEST))
        return (weight_OI / self.step_O1).to(torch.float8_e4m3fn)

    def dense(self, dtype: torch.dtype) -> torch.Tensor:
        """See QuantisedLinear."""
        return (self.weight.float() * self.step_O1).to(dtype)


class Nf4Linear(QuantisedLinear):
    """Sixteen levels, the quantiles of a normal distribution, in blocks of 64 weights that each reach their largest value.

    NormalFloat (Dettmers et al. 2023, QLoRA, arXiv:2305.14314, section 3; the levels are its appendix E's). Two weights
    are held in a byte, the first in its low half.
    """

    BLOCK = 64
    LEVELS = (
        -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
        -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
        0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
    )  # fmt: skip

    scale_OB1: torch.Tensor
    levels_16: torch.Tensor

    def _hold(self, weight_OI: torch.Tensor) -> torch.Tensor:
        blocks_OBW = F.pad(weight_OI, (0, -self.in_features % self.BLOCK)).view(self.out_features, -1, self.BLOCK)
        self.register_buffer("scale_OB1", _steps(blocks_OBW, 1.0))
        self.register_buffer("levels_16", weight_OI.new_tensor(self.LEVELS))
        between = (self.levels_16[1:] + self.levels_16[:-1]) / 2
        codes = torch.bucketize(blocks_OBW / self.scale_OB1, between).to(torch.uint8).view(self.out_features, -1, 2)
        return codes[..., 0] | codes[..., 1] << 4

    def dense(self, dtype: torch.dtype) -> torch.Tensor:
        """See QuantisedLinear."""
        codes = torch.stack((self.weight & 15, self.weight >> 4), -1).view(self.out_features, -1, self.BLOCK)
        weight_OBW = self.levels_16[codes.int()] * self.scale_OB1
        return weight_OBW.view(self.out_features, -1)[:, : self.in_features].to(dtype)


KINDS: Mapping[str, type[QuantisedLinear]] = {"int8": Int8Linear, "fp8": Fp8Linear, "nf4": Nf4Linear}
"""By the name that a plan gives them."""


def _steps(weight: torch.Tensor, largest: float) -> torch.Tensor:
    """What the values along the last dimension are divided by, so that none is larger than `largest`."""
    return (weight.abs().amax(-1, keepdim=True) / largest).clamp_min(torch.finfo(torch.float32).tiny)


def dense(weight: torch.Tensor | QuantisedLinear, dtype: torch.dtype) -> torch.Tensor:
    """A weight to multiply with: a quantised layer's in `dtype`, one in oneDNN's tiles in its own order again, any other as it is."""
    if isinstance(weight, QuantisedLinear):
        return weight.dense(dtype)
    return weight.to_dense() if weight.is_mkldnn else weight


@torch.no_grad()
def quantise(model: nn.Module, kind: str) -> None:
    """Hold every linear layer's weight but the output head's as a layer of `KINDS` does, adapters or not."""
    head = model.get_output_embeddings()  # type: ignore[operator]
    found = [
        (path, layer)
        for path, layer in model.named_modules()
        if isinstance(layer, nn.Linear | Conv1D) and not isinstance(layer, QuantisedLinear) and layer is not head
    ]
    while found:
        path, layer = found.pop()
        parent, _, leaf = path.rpartition(".")
        setattr(model.get_submodule(parent), leaf, KINDS[kind](layer))
