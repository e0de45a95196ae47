"""How weights are rounded when they are written: the same numbers, in fp32, as a reader gets back."""

from __future__ import annotations

from collections.abc import Callable

import torch

from journeyman.errors import ExportError

WEIGHT_TYPES = ("f32", "f16", "bf16", "q8_0")
BITS = {"f32": 32, "f16": 16, "bf16": 16, "q8_0": 8.5}
"""Bits a weight: q8_0 has 32 bytes and a half-precision scale for 32 weights."""
DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
_BLOCK = 32


def stored_as(shape: tuple[int, ...], dtype: str) -> str:
    """The type a tensor of this shape gets in GGUF: vectors stay f32, and q8_0 needs rows of whole blocks."""
    if len(shape) == 1:
        return "f32"
    return "f16" if dtype == "q8_0" and shape[-1] % _BLOCK else dtype


def rounded(values: torch.Tensor, dtype: str) -> torch.Tensor:
    """The values as they come back from a file of this type.

    q8_0 (ggml-quants.c, quantize_row_q8_0_ref): blocks of 32 with scale max|x| / 127 in half precision.
    """
    if dtype != "q8_0":
        return values.to(DTYPES[dtype]).float()
    blocks = values.reshape(-1, _BLOCK)
    scale = blocks.abs().amax(dim=1, keepdim=True) / 127
    steps = blocks * torch.where(scale == 0, 0, 1 / scale)
    nearest = torch.sign(steps) * torch.floor(steps.abs() + 0.5)
    return (nearest * scale.half().float()).reshape(values.shape)


@torch.no_grad()
def round_model(model: torch.nn.Module, kind: Callable[[tuple[int, ...]], str]) -> None:
    """Round every parameter in place to the type that `kind` gives for its shape.

    Raises ExportError where a weight is too large for the type (half precision ends at 65,504).
    """
    overflown = []
    for name, parameter in model.named_parameters():
        dtype = kind(tuple(parameter.shape))
        parameter.copy_(rounded(parameter, dtype))
        if not bool(parameter.isfinite().all()):
            overflown.append(f"{name} as {dtype}")
    if overflown:
        raise ExportError(
            f"{len(overflown)} tensor(s) hold values that the type can't",
            where="--type",
            fix="use bf16 or f32",
            code="weights_overflow",
            problems=overflown[:10],
        )
