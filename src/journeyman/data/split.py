"""Train, validation and held-out rows, split by near-duplicate group of the input.

Each group gets a number between 0 and 1 from the seed and its own text alone: below the held-out share it is held
out, below held-out + validation it validates, else it trains. So neither the order of the rows nor other rows
move a row, with exceptions that matter in small datasets only: a row that gets a new near-duplicate may follow it;
where the shares would give a split fewer than MIN_ROWS rows, the groups with the next lowest numbers are added; a
split stops at twice its share; and a group larger than a split's whole share is not put there.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from typing import Literal

from journeyman.data.similar import normalised
from journeyman.errors import DataError

SplitName = Literal["train", "validation", "held_out"]

VALIDATION_SHARE = 0.1
HELD_OUT_SHARE = 0.15
MIN_ROWS = 10
"""A split is topped up to this many rows, or to its share where the share is less; 1 at least."""


def split(
    inputs: Sequence[str],
    groups: Sequence[int],
    *,
    validation_share: float = VALIDATION_SHARE,
    held_out_share: float = HELD_OUT_SHARE,
    seed: int = 0,
) -> list[SplitName]:
    """The split of each row; `groups` as `near_groups` gives them. No group is torn, and training is never empty.

    Raises DataError `bad_share` for shares that are negative or leave less than half of the rows to training.
    """
    if not (validation_share >= 0 and held_out_share >= 0 and validation_share + held_out_share <= 0.5):
        raise DataError(
            f"validation share {validation_share} and held-out share {held_out_share} leave too little to train on",
            fix="use shares from 0 up that sum to 0.5 at most",
            code="bad_share",
        )
    members: dict[int, list[int]] = defaultdict(list)
    for row, group in enumerate(groups):
        members[group].append(row)
    numbered = sorted((_number([inputs[row] for row in rows], seed), rows) for rows in members.values())
    out: list[SplitName] = ["train"] * len(inputs)
    if len(inputs) < 3:
        return out
    left = _take(out, numbered, "held_out", held_out_share, held_out_share)
    _take(out, left, "validation", held_out_share + validation_share, validation_share)
    return out


def _number(texts: Sequence[str], seed: int) -> float:
    """A number in [0, 1) that depends on the seed and on which inputs are in the group, not on their count or order."""
    key = min(_digest(normalised(text)) for text in texts)
    return int(_digest(f"{seed} {key}")[:13], 16) / 16**13


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _take(
    out: list[SplitName], numbered: list[tuple[float, list[int]]], name: SplitName, below: float, share: float
) -> list[tuple[float, list[int]]]:
    """Mark the groups of one split in `out`; returns the groups that are left, in order."""
    due = share * len(out)
    least = max(1, min(MIN_ROWS, round(due))) if due else 0
    most = max(least, 2 * due)
    taken = 0
    left: list[tuple[float, list[int]]] = []
    for place, (number, rows) in enumerate(numbered):
        last = not left and place == len(numbered) - 1
        fits = len(rows) <= max(1, due) and taken + len(rows) <= most
        if due and not last and fits and (number < below or taken < least):
            taken += len(rows)
            for row in rows:
                out[row] = name
        else:
            left.append((number, rows))
    return left
