"""A gated feed-forward with adapters, of which backward keeps half of what autograd would.

y = down(silu(gate x) * up x) (Shazeer 2020, arXiv:2002.05202). Autograd keeps gate, silu(gate), up and their product, each as
wide as the layer is inside. The last two are made again from the first and third, which takes two passes over them.
The plain twin is the model's own forward, which tests hold equal and which computes wherever nothing is trained.

Shapes: N tokens, D width, I inner width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  (the field's usual name)

from journeyman.train.lora import Factors, LoraLinear, factors_of, product, product_backward

PARTS = ("gate_proj", "up_proj", "down_proj")


class GatedProduct(torch.autograd.Function):
    """down(silu(gate x) * up x) with three frozen weights and their adapters."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, parts: tuple[Factors, Factors, Factors], *trained: torch.Tensor) -> torch.Tensor:
        """`trained` are A and B of gate, up and down, in this order; `parts` are what belongs to them."""
        adapters = [(a.to(x.dtype), (b * part.scaling).to(x.dtype)) for part, a, b in zip(parts, trained[::2], trained[1::2], strict=True)]
        gate, up, down = parts
        x_ND = x.reshape(-1, x.shape[-1])
        gate_NI, gate_inner = product(x_ND, gate, *adapters[0])
        up_NI, up_inner = product(x_ND, up, *adapters[1])
        y_ND, down_inner = product(F.silu(gate_NI).mul_(up_NI), down, *adapters[2])
        ctx.save_for_backward(x_ND, gate_NI, up_NI, gate_inner, up_inner, down_inner, *(t for pair in adapters for t in pair))
        ctx.parts = parts
        return y_ND.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients of x (where something before it is trained) and of the adapters."""
        x_ND, gate_NI, up_NI, gate_inner, up_inner, down_inner, *adapters = ctx.saved_tensors
        gate, up, down = ctx.parts
        silu_NI = F.silu(gate_NI)
        grad_NI, *of_down = product_backward(grad.reshape(-1, grad.shape[-1]), silu_NI * up_NI, down_inner, down, *adapters[4:])
        assert grad_NI is not None
        grad_up_NI = silu_NI.mul_(grad_NI)
        grad_gate_NI = torch.ops.aten.silu_backward(grad_NI.mul_(up_NI), gate_NI)
        grad_x, *of_up = product_backward(grad_up_NI, x_ND, up_inner, up, *adapters[2:4], needed=ctx.needs_input_grad[0])
        grad_x, *of_gate = product_backward(grad_gate_NI, x_ND, gate_inner, gate, *adapters[:2], needed=ctx.needs_input_grad[0], onto=grad_x)
        return None if grad_x is None else grad_x.view(*grad.shape[:-1], -1), None, *of_gate, *of_up, *of_down


def keep_less(model: nn.Module) -> int:
    """Have the model's gated feed-forwards with adapters computed so; how many there are. Others are left as they are."""
    found = 0
    for module in model.modules():
        linears = [getattr(module, name, None) for name in PARTS]
        is_silu = isinstance(getattr(module, "act_fn", None), nn.SiLU) or type(getattr(module, "act_fn", None)).__name__ == "SiLUActivation"
        if is_silu and all(isinstance(linear, LoraLinear) and linear.active for linear in linears):
            module.forward = _kept_less(module.forward, linears)  # type: ignore[arg-type]
            found += 1
    return found


def _kept_less(plain: Callable[..., torch.Tensor], linears: list[LoraLinear]) -> Callable[..., torch.Tensor]:
    def forward(x: torch.Tensor) -> torch.Tensor:
        adapters = [(linear.lora_A[linear.active], linear.lora_B[linear.active]) for linear in linears if linear.active]
        if not torch.is_grad_enabled() or len(adapters) < len(linears):
            return plain(x)
        trained = [t for adapter in adapters for t in adapter]
        out: torch.Tensor = GatedProduct.apply(x, tuple(map(factors_of, linears)), *trained)  # type: ignore[no-untyped-call]
        return out

    return forward
