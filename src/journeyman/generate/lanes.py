"""Keys and values of rows that write, each row's own in one piece of memory: its lane.

Blocks lie anywhere in the pool. To gather them costs a copy of all keys and values at every token, and for a small model
that copy is more than half of a pass. A row that gets one token after another is copied once instead, into a lane, and then
only its newest token is. The pool stays the place where everything is: a row that comes, outgrows its lane or is given
another one is copied from there.

Shapes: L lanes, K key heads, S places in a lane, D head width.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from journeyman.generate.blocks import BLOCK_TOKENS, blocks_of
from journeyman.generate.row import Row, Segment

LANES_BYTES = 128 * 2**20
"""Lanes of one size take so much at most, when all rows are in them; rows that are longer are gathered."""


@dataclass(slots=True)
class Lane:
    """Where a row is, in which of the lanes of `blocks` blocks; `tokens` of it are there after the present pass."""

    blocks: int
    number: int
    tokens: int
    fresh: bool
    """Whether the row must be copied from the pool in this pass."""


class Lanes:
    """The lanes of up to `rows` rows, of which a token takes `token_bytes` over all layers."""

    def __init__(self, rows: int, token_bytes: int) -> None:
        self._most_blocks = LANES_BYTES // max(1, rows * BLOCK_TOKENS * token_bytes)
        self._rows = rows
        self._lanes: dict[Row, Lane] = {}
        self._held: dict[tuple[nn.Module, int], tuple[torch.Tensor, torch.Tensor]] = {}

    def arrange(self, steps: Sequence[Segment]) -> list[Segment]:
        """Give each row of one token a lane, and put them in the order of their lanes; the longest, without one, come last.

        The rows of one size are in its first lanes, so that these are computed as they lie. A row keeps its lane where it can.
        """
        of_size = defaultdict(list)
        for step in steps:
            of_size[_size(step)].append(step)
        before, self._lanes = self._lanes, {}
        ordered: list[Segment] = []
        for blocks in sorted(of_size):
            rows = sorted(of_size[blocks], key=lambda s: s.row.computed)
            ordered += rows if blocks > self._most_blocks else self._settle(blocks, rows, before)
        return ordered

    def _settle(self, blocks: int, steps: Sequence[Segment], before: dict[Row, Lane]) -> list[Segment]:
        settled: dict[int, Segment] = {}
        coming = []
        for step in steps:
            lane = before.get(step.row)
            if lane and lane.blocks == blocks and lane.number < len(steps) and lane.tokens == step.row.computed:
                settled[lane.number] = step
            else:
                coming.append(step)
        kept = set(settled)
        settled |= dict(zip((n for n in range(len(steps)) if n not in kept), coming, strict=True))
        for number, step in settled.items():
            self._lanes[step.row] = Lane(blocks, number, step.row.computed + 1, number not in kept)
        return [settled[number] for number in range(len(steps))]

    def lane_of(self, step: Segment) -> Lane | None:
        """A row's lane in the pass that was arranged last."""
        return self._lanes.get(step.row)

    def of(self, layer: nn.Module, blocks: int, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """A layer's keys and values in all lanes of a size (L K S D); `like` (N K D) has its heads, width and type."""
        if (layer, blocks) not in self._held:
            sizes = self._rows, like.shape[1], blocks * BLOCK_TOKENS, like.shape[2]
            self._held.setdefault((layer, blocks), (zeros(like, *sizes), zeros(like, *sizes)))  # two workers may come together
        return self._held[layer, blocks]


def _size(step: Segment) -> int:
    """A row's blocks, up to the next power of two or the one halfway to it: 1, 2, 3, 4, 6, 8, 12 and so on."""
    blocks = blocks_of(step.row.computed + 1)
    power = 1 << (blocks - 1).bit_length()
    return 3 * power // 4 if power >= 4 and blocks <= 3 * power // 4 else power


def zeros(like: torch.Tensor, *sizes: int) -> torch.Tensor:
    """Zeros that take no memory until they are written, on a CPU: numpy asks the system for zeros, torch would write them.

    Zeros, since what a row does not see is multiplied by a share of 0, and what new memory holds may be NaN.
    """
    if like.device.type != "cpu":
        return like.new_zeros(sizes)
    held: np.ndarray[Any, np.dtype[np.uint8]] = np.zeros(math.prod(sizes) * like.element_size(), dtype=np.uint8)
    return torch.from_numpy(held).view(like.dtype).view(sizes)
