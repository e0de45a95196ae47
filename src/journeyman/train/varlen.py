"""Attention on a GPU for rows laid side by side without padding: segments of any length in one call.

torch's FlashAttention (Dao 2023, arXiv:2307.08691) takes the ends of the segments and attends within each, causally from its
last key backwards, so that a segment whose queries go on from a beginning that other rows share sees that beginning first.
`one_by_one` is the plain twin, which tests hold equal and which computes where there is no such kernel.

Shapes: N places, E segments, S keys of all segments together, H query heads, K key heads, D head width.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  (the field's usual name)
from torch.nn.attention.varlen import varlen_attn

from journeyman.text.shared import Spans
from journeyman.train import attention

FLASH_CAPABILITY = (8, 0)
"""From Ampere on there is the kernel, in half precision."""


@dataclass(frozen=True)
class Segments:
    """text/shared.py:Spans in tensors. `ends` and `key_ends` begin with 0; `keys_S` is None where each place is its own key only."""

    ends: torch.Tensor
    key_ends: torch.Tensor
    keys_S: torch.Tensor | None
    places: int
    longest: int
    longest_keys: int

    @classmethod
    def of(cls, spans: Spans, device: torch.device) -> Segments:
        """The spans on a device, once for all layers."""
        ends, key_ends = [0, *spans.ends_E.tolist()], [0, *spans.key_ends_E.tolist()]
        own = ends == key_ends
        return cls(
            torch.tensor(ends, dtype=torch.int32, device=device),
            torch.tensor(key_ends, dtype=torch.int32, device=device),
            None if own else torch.from_numpy(spans.keys_S).to(device),
            ends[-1],
            max(b - a for a, b in pairwise(ends)),
            max(b - a for a, b in pairwise(key_ends)),
        )


def attending(spans: Spans, device: torch.device) -> attention.Attend:
    """What attends as `spans` say, for `attention.attending`."""
    segments = Segments.of(spans, device)

    def attend_instead(
        _: nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, rest: dict[str, Any]
    ) -> torch.Tensor:
        scaling, window = attention.layer_terms(query, value, rest)
        kind = query.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else value.dtype
        q_NHD, k_NKD, v_NKD = (x[0].transpose(0, 1).to(dtype) for x in (query, key, value))
        return attend(q_NHD, k_NKD, v_NKD, segments, scaling, window).unsqueeze(0)

    return attend_instead


def attend(
    q_NHD: torch.Tensor, k_NKD: torch.Tensor, v_NKD: torch.Tensor, segments: Segments, scaling: float, window: int | None
) -> torch.Tensor:
    """Attention of all segments, N H D; places beyond the last segment are 0."""
    if segments.keys_S is None:
        k_SKD, v_SKD = k_NKD[: segments.places], v_NKD[: segments.places]
    else:
        k_SKD, v_SKD = k_NKD.index_select(0, segments.keys_S), v_NKD.index_select(0, segments.keys_S)
    attends = flash if has_flash(q_NHD.device, q_NHD.dtype) else one_by_one
    out = attends(q_NHD[: segments.places], k_SKD, v_SKD, segments, scaling, window)
    return F.pad(out, (0, 0, 0, 0, 0, len(q_NHD) - segments.places))


def has_flash(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether there is a kernel for it."""
    half = dtype in (torch.bfloat16, torch.float16)
    return device.type == "cuda" and half and torch.cuda.get_device_capability(device) >= FLASH_CAPABILITY


def flash(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, segments: Segments, scaling: float, window: int | None
) -> torch.Tensor:
    """All segments in one call. The window counts the keys before a query's own, -1 for all of them; none after it are seen."""
    before = -1 if window is None else window - 1
    grouped: Any = _grouped()
    out = varlen_attn(
        q.contiguous(), k.contiguous(), v.contiguous(), segments.ends, segments.key_ends, segments.longest, segments.longest_keys,
        scale=scaling, window_size=(before, 0), **grouped,
    )  # fmt: skip
    assert isinstance(out, torch.Tensor)  # it is a pair where the scores' sums are asked for
    return out


@cache
def _grouped() -> dict[str, bool]:
    """Before torch 2.12 fewer key heads than query heads are taken as they are; since then it must be said."""
    return {"enable_gqa": True} if "enable_gqa" in inspect.signature(varlen_attn).parameters else {}


def one_by_one(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, segments: Segments, scaling: float, window: int | None
) -> torch.Tensor:
    """Segment after segment, with a mask that is written out."""
    found = []
    for (start, end), (key_start, key_end) in zip(pairwise(segments.ends.tolist()), pairwise(segments.key_ends.tolist()), strict=True):
        first = (key_end - key_start) - (end - start)
        at_T, at_S = torch.arange(end - start, device=q.device)[:, None] + first, torch.arange(key_end - key_start, device=q.device)
        seen_TS = at_S <= at_T if window is None else (at_S <= at_T) & (at_S > at_T - window)
        q_HTD, k_KSD, v_KSD = (x.transpose(0, 1).unsqueeze(0) for x in (q[start:end], k[key_start:key_end], v[key_start:key_end]))
        out = F.scaled_dot_product_attention(q_HTD, k_KSD, v_KSD, attn_mask=seen_TS, scale=scaling, enable_gqa=True)
        found.append(out[0].transpose(0, 1))
    return torch.cat(found)
