"""Batches: which rows make an optimizer step, and how a step is cut into micro-batches of about equal cost.

Everything here is a pure function of its arguments, so that a resumed run sees the same batches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from journeyman.text.encode import Encoded


@dataclass(frozen=True)
class MicroBatch:
    """Rows padded on the right to the longest: `ids_BT`, and `weights_BT` (0 on padding).

    Padding on the right never reaches a real token in a causal model, so no attention mask is needed.
    """

    ids_BT: npt.NDArray[np.int64]
    weights_BT: npt.NDArray[np.float32]
    lengths_B: npt.NDArray[np.int64]
    rows: Sequence[Encoded]

    def row_sums(self, values_N: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """The sum over each of `rows` of what stands at its learned tokens, given row by row."""
        row_N = np.nonzero(self.weights_BT[:, 1:] > 0)[0]
        return np.bincount(row_N, weights=values_N, minlength=len(self.rows)).astype(np.float64)


def epoch_steps(rows: int, batch_size: int, *, seed: int, epoch: int) -> list[list[int]]:
    """The row numbers of every optimizer step of one epoch: each row exactly once, shuffled anew each epoch.

    The last step may be smaller; its gradient is divided by its own number of learned tokens, so no row counts
    less than another.
    """
    order = np.random.default_rng([seed, epoch]).permutation(rows)
    return [order[start : start + batch_size].tolist() for start in range(0, rows, batch_size)]


WIDTH_STEP = 8
"""Widths are rounded up to this many inputs. A CPU's matrix library compiles a product for every shape it meets (0.7 ms
and 0.7 MB each with oneDNN 3, measured); rows of all lengths would pay that at every step."""


def micro_batches(
    rows: Sequence[Encoded], max_tokens: int, *, context_tokens: int | None = None, side_by_side: int = 1
) -> list[MicroBatch]:
    """Cut one step's rows into micro-batches of at most `max_tokens` padded tokens, rows of like length together.

    A row longer than `max_tokens` travels alone. The count of learned tokens is conserved. No micro-batch is wider
    than what a model of `context_tokens` reads. As many as are computed `side_by_side` are of about equal size.
    """
    by_length = sorted(rows, key=len, reverse=True)

    def fill(limit: int) -> list[list[Encoded]]:
        groups: list[list[Encoded]] = []
        for row in by_length:
            if groups and (len(groups[-1]) + 1) * _width(groups[-1][0], context_tokens) <= limit:
                groups[-1].append(row)
            else:
                groups.append([row])
        return groups

    return [pad(group, _width(group[0], context_tokens)) for group in balanced(fill, max_tokens, side_by_side)]


def balanced(fill: Callable[[int], list[list[Encoded]]], max_tokens: int, side_by_side: int) -> list[list[Encoded]]:
    """The groups that `fill` makes within the smallest limit that makes no more of them than keep all workers busy.

    Those are as many as within `max_tokens`, and as many more as make their number a multiple of `side_by_side`.
    """
    groups = fill(max_tokens)
    if side_by_side == 1:
        return groups
    most = -(-len(groups) // side_by_side) * side_by_side
    low, high = 0, max_tokens
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if len(fill(middle)) <= most else (middle, high)
    return fill(high)


def _width(longest: Encoded, context_tokens: int | None) -> int:
    """The inputs, which are all tokens but the last, rounded up; and the last."""
    inputs = -(-(len(longest) - 1) // WIDTH_STEP) * WIDTH_STEP
    return max(len(longest), min(inputs, context_tokens or inputs) + 1)


def pad(rows: Sequence[Encoded], width: int | None = None) -> MicroBatch:
    """Pad rows on the right with token 0, which carries weight 0, to `width` or the longest row."""
    width = width or max(len(row) for row in rows)
    ids_BT = np.zeros((len(rows), width), dtype=np.int64)
    weights_BT = np.zeros((len(rows), width), dtype=np.float32)
    for index, row in enumerate(rows):
        ids_BT[index, : len(row)] = row.ids_T
        weights_BT[index, : len(row)] = row.weights_T
    return MicroBatch(ids_BT, weights_BT, np.array([len(row) for row in rows], dtype=np.int64), rows)
