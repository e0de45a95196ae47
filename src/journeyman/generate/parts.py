"""Whose attention is computed together: rows of one token in their lanes, others gathered from blocks, and chunks of prompts.

Shapes: B rows, N tokens side by side, H query heads, K key heads, G query heads a key head, J blocks of the longest row, S keys
of a row, P places in the pool, D head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby, takewhile
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  (the field's usual name)

from journeyman.generate.blocks import BLOCK_TOKENS, blocks_of
from journeyman.generate.lanes import Lane, Lanes
from journeyman.generate.row import Row, Segment
from journeyman.train import attention

LONG_TOKENS = 192
"""From here on our own attention is the quicker on a CPU (bf16: twice as quick at 256 tokens), though oneDNN makes kernels anew
for each length."""

LANES_TOGETHER = 8
"""Rows in lanes are computed in multiples of so many."""

Pair = tuple[torch.Tensor, torch.Tensor]
"""Keys and values."""


class Part(Protocol):
    """Tokens side by side whose attention is computed together."""

    tokens: slice

    def attend(self, layer: nn.Module, q_NHD: torch.Tensor, new_NKD: Pair, pool_KPD: Pair, scaling: float, window: int | None) -> torch.Tensor:
        """Their output, N H D; the pool holds the `new` keys and values already."""
        ...


def parts(segments: Sequence[Segment], lanes: Lanes, device: str) -> list[Part]:
    """Rows of one token, in the order of their lanes and those without one by the power of two of their blocks; chunks one by one."""
    found: list[Part] = []
    at = 0
    steps = [(step, lanes.lane_of(step)) for step in takewhile(lambda s: s.tokens == 1, segments)]
    for (blocks, _), group in groupby(steps, key=lambda one: _together(*one)):
        rows = list(group)
        tokens = slice(at, at := at + len(rows))
        found.append(_in_lanes(rows, tokens, blocks, lanes, device) if blocks else _gathered([s for s, _ in rows], tokens, device))
    for segment in segments[len(steps) :]:
        places = torch.from_numpy(places_of(segment.row, 0, segment.row.computed + segment.tokens)).to(device)
        found.append(Chunk(slice(at, at := at + segment.tokens), places, segment.row.computed))
    return found


def _together(step: Segment, lane: Lane | None) -> tuple[int, int]:
    """What rows of one token must have in common: the size of their lanes, else about their length, so that padding at most doubles them."""
    return (lane.blocks, 0) if lane else (0, blocks_of(step.row.computed + 1).bit_length())


def places_of(row: Row, start: int, end: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Where in the pool the row's tokens from `start` to `end` are."""
    assert row.holding is not None
    if end == start + 1:
        return np.array([row.holding.blocks[start // BLOCK_TOKENS] * BLOCK_TOKENS + start % BLOCK_TOKENS], dtype=np.int64)
    at = np.arange(start, end)
    first = start // BLOCK_TOKENS
    blocks = np.array(row.holding.blocks[first : blocks_of(end)], dtype=np.int64)
    return blocks[at // BLOCK_TOKENS - first] * BLOCK_TOKENS + at % BLOCK_TOKENS


def _unseen(lengths_B: torch.Tensor, places: int, heads: int, window: int | None, like: torch.Tensor) -> torch.Tensor:
    """What is added to scores, B K 1 S, of `heads`: -inf for what lies beyond a row's end, or before the window that its last token sees."""
    at_S = torch.arange(places, device=lengths_B.device)
    unseen_BS = at_S >= lengths_B[:, None]
    if window is not None:
        unseen_BS |= at_S < lengths_B[:, None] - window
    added_BS = torch.zeros(unseen_BS.shape, dtype=like.dtype, device=like.device).masked_fill_(unseen_BS, float("-inf"))
    return added_BS[:, None, None].expand(-1, heads, 1, -1)


def _attend(q_XGD: torch.Tensor, k_XSD: torch.Tensor, v_XSD: torch.Tensor, unseen_X1S: torch.Tensor, scaling: float) -> torch.Tensor:
    """Softmax of the scores over what is seen, times the values; X are rows and key heads, in any order that all have."""
    scores_XGS = torch.baddbmm(unseen_X1S, q_XGD, k_XSD.transpose(-1, -2), alpha=scaling)
    return torch.bmm(torch.softmax(scores_XGS, -1), v_XSD)


@dataclass(slots=True)
class InLanes:
    """One token each of B rows in lanes side by side, from `first` on. `fresh` rows are copied from their places in the pool."""

    tokens: slice
    blocks: int
    first: int
    lengths_B: torch.Tensor
    fresh: Sequence[tuple[int, torch.Tensor]]
    lanes: Lanes
    _unseen: dict[int | None, torch.Tensor] = field(default_factory=dict)
    _newest: torch.Tensor | None = None

    def attend(self, layer: nn.Module, q_NHD: torch.Tensor, new_NKD: Pair, pool_KPD: Pair, scaling: float, window: int | None) -> torch.Tensor:
        """See Part."""
        B, K, D = new_NKD[0].shape
        held_LKSD = self.lanes.of(layer, self.blocks, new_NKD[0])
        for lane, places_S in self.fresh:
            for held, pool in zip(held_LKSD, pool_KPD, strict=True):
                held[lane, :, : len(places_S)] = pool.index_select(1, places_S)
                held[lane, :, len(places_S) :] = 0  # whoever was here before may have left what is not finite
        newest_BK = self._places_of_newest(K, held_LKSD[0].shape[2])
        for held, new in zip(held_LKSD, new_NKD, strict=True):
            held.view(-1, D).index_copy_(0, newest_BK, new.reshape(B * K, D))
        # All of their places, seen or not: oneDNN copies keys that do not lie end to end. Some lanes more, so that it meets few shapes.
        more = min(-B % LANES_TOGETHER, len(held_LKSD[0]) - self.first - B)
        k, v = (held[self.first : self.first + B + more] for held in held_LKSD)
        if window not in self._unseen:
            self._unseen[window] = _unseen(F.pad(self.lengths_B, (0, more), value=1), k.shape[2], K, window, k).flatten(0, 1)
        q_XGD = F.pad(q_NHD, (0, 0, 0, 0, 0, more)).reshape((B + more) * K, -1, D)
        out_XGD = _attend(q_XGD, k.flatten(0, 1), v.flatten(0, 1), self._unseen[window], scaling)
        return out_XGD.view(B + more, -1, D)[:B]

    def _places_of_newest(self, heads: int, places: int) -> torch.Tensor:
        """Where each row's newest token is, for each head, in lanes laid end to end; the layers have it in common."""
        if self._newest is None:
            lanes_B = torch.arange(self.first, self.first + len(self.lengths_B), device=self.lengths_B.device)
            heads_BK = lanes_B[:, None] * heads + torch.arange(heads, device=lanes_B.device)
            self._newest = (heads_BK * places + (self.lengths_B - 1)[:, None]).view(-1)
        return self._newest


def _in_lanes(rows: Sequence[tuple[Segment, Lane | None]], tokens: slice, blocks: int, lanes: Lanes, device: str) -> InLanes:
    known = [(step.row, lane) for step, lane in rows if lane is not None]
    lengths = [row.computed + 1 for row, _ in known]
    fresh = [
        (lane.number, torch.from_numpy(places_of(row, 0, row.computed + 1)).to(device)) for row, lane in known if lane.fresh
    ]
    return InLanes(tokens, blocks, known[0][1].number, torch.tensor(lengths, device=device), fresh, lanes)


@dataclass(slots=True)
class Gathered:
    """One token each of B rows, of about equal length: all rows are padded to as many blocks, of S keys together.

    A row is padded with a block of its own: what it doesn't see is still multiplied, by 0, and must be finite if the row is.
    """

    tokens: slice
    blocks_BJ: torch.Tensor
    lengths_B: torch.Tensor
    _unseen: dict[int | None, torch.Tensor] = field(default_factory=dict)

    def attend(self, layer: nn.Module, q_NHD: torch.Tensor, new_NKD: Pair, pool_KPD: Pair, scaling: float, window: int | None) -> torch.Tensor:
        """See Part."""
        B, (K, _, D) = len(self.blocks_BJ), pool_KPD[0].shape
        k, v = (
            pool.view(K, -1, BLOCK_TOKENS * D).index_select(1, self.blocks_BJ.view(-1)).view(K, B, -1, D)
            for pool in pool_KPD
        )
        if window not in self._unseen:
            self._unseen[window] = _unseen(self.lengths_B, k.shape[2], K, window, k).transpose(0, 1).flatten(0, 1)
        q_XGD = q_NHD.view(B, K, -1, D).transpose(0, 1).flatten(0, 1)
        out_XGD = _attend(q_XGD, k.flatten(0, 1), v.flatten(0, 1), self._unseen[window], scaling)
        return out_XGD.view(K, B, -1, D).transpose(0, 1).reshape(B, -1, D)


def _gathered(steps: Sequence[Segment], tokens: slice, device: str) -> Gathered:
    lengths = [s.row.computed + 1 for s in steps]
    blocks = np.zeros((len(steps), blocks_of(max(lengths))), dtype=np.int64)
    for row, (segment, length) in enumerate(zip(steps, lengths, strict=True)):
        assert segment.row.holding is not None
        blocks[row] = segment.row.holding.blocks[0]
        blocks[row, : blocks_of(length)] = segment.row.holding.blocks[: blocks_of(length)]
    return Gathered(tokens, torch.from_numpy(blocks).to(device), torch.tensor(lengths, device=device))


@dataclass(slots=True)
class Chunk:
    """Some tokens of one row, of which `first` stand before."""

    tokens: slice
    places_S: torch.Tensor
    first: int

    def attend(self, layer: nn.Module, q_NHD: torch.Tensor, new_NKD: Pair, pool_KPD: Pair, scaling: float, window: int | None) -> torch.Tensor:
        """See Part."""
        q = q_NHD.transpose(0, 1).unsqueeze(0)
        k, v = (pool.index_select(1, self.places_S).unsqueeze(0) for pool in pool_KPD)
        if self.first == 0 and window is None and (q.device.type != "cpu" or q.shape[2] < LONG_TOKENS):
            out = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling, enable_gqa=True)
        else:
            out = attention.attend(q, k, v, scaling, self.first, window)
        return out[0].transpose(0, 1)
