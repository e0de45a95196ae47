"""Muon for the matrices of the layers, AdamW for everything else.

Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/) replaces a matrix's momentum by the nearest
orthogonal matrix, so that every direction is learnt at the same pace. It needs roughly half of AdamW's tokens to
reach the same loss, which is what counts when the tokens per second are few. `torch.optim.Muon` does the iteration
in bfloat16, which is slow on processors without it; here it does so only where the machine multiplies bfloat16, and
matrices of one shape go through it together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


@cache
def multiplies_bf16(device: torch.device) -> bool:
    """Whether the machine has instructions for bfloat16 products; emulated ones are slower than single precision."""
    if device.type == "cuda":
        return True
    flags = Path("/proc/cpuinfo")
    found = flags.read_text() if flags.exists() else ""
    return "avx512_bf16" in found or "amx_bf16" in found


def orthogonalise(G_NRC: Tensor, steps: int = 5) -> Tensor:
    """A stack of matrices with their singular values pushed to about 1 (between 0.7 and 1.2, by the quintic above)."""
    a, b, c = NEWTON_SCHULZ
    tall = G_NRC.shape[1] > G_NRC.shape[2]
    X = G_NRC.mT if tall else G_NRC
    X = X.bfloat16() if multiplies_bf16(X.device) else X
    X = X / (X.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        A = X @ X.mT
        X = a * X + (b * A + c * A @ A) @ X
    X = X.to(G_NRC.dtype)
    orthogonal: Tensor = X.mT if tall else X
    return orthogonal


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised.

    A step has spectral norm about `lr`, times sqrt(rows / columns) for tall matrices.
    """

    def __init__(self, matrices: Iterable[Tensor], lr: float = 0.02, momentum: float = 0.95, decay: float = 0.0) -> None:
        by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
        for matrix in matrices:
            by_shape[matrix.shape].append(matrix)
        groups = [{"params": same} for same in by_shape.values()]
        super().__init__(groups, {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Move every matrix once."""
        for group in self.param_groups:
            matrices = group["params"]
            moved = []
            for matrix in matrices:
                state = self.state[matrix]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(matrix)
                momentum = state["momentum"].lerp_(matrix.grad, 1 - group["momentum"])
                moved.append(matrix.grad.lerp(momentum, group["momentum"]))
            directions = orthogonalise(torch.stack(moved))
            rows, columns = matrices[0].shape
            scale = max(1.0, rows / columns) ** 0.5
            for matrix, direction in zip(matrices, directions, strict=True):
                matrix.mul_(1 - group["lr"] * group["decay"])
                matrix.add_(direction, alpha=-group["lr"] * scale)


def optimizers(model: nn.Module, muon_rate: float, adam_rate: float) -> list[torch.optim.Optimizer]:
    """Both optimizers; every group remembers its full rate as `peak`, which the schedule multiplies."""
    matrices = [w for name, w in model.named_parameters() if w.ndim == 2 and "embed" not in name]
    others = [w for name, w in model.named_parameters() if w.ndim != 2 or "embed" in name]
    found: list[torch.optim.Optimizer] = [
        Muon(matrices, lr=muon_rate, decay=0.01),
        torch.optim.AdamW(others, lr=adam_rate, betas=(0.9, 0.95), eps=1e-10, weight_decay=0.0),
    ]
    for optimizer in found:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return found
