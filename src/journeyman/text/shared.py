"""Rows laid side by side in one sequence, without padding, in which what several rows begin with stands once.

Files written for OpenAI repeat the same system prompt, few-shot block or tool list in every row. A causal model's
hidden states depend on nothing but the tokens before, so what rows have in common at their beginning has the same
hidden states in each of them, and is computed once: same loss, and by the chain rule the same gradients.

Sorted rows are a tree: a *segment* is a stretch of tokens that the same rows share, and it sees the segments before it
in its rows. Everything here is a pure function of its arguments.

Shapes: N places in the sequence, M predictions made at K of them, B segments of T queries with S keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from journeyman.text.encode import Encoded

SHORTEST_SHARED = 16
"""A shorter beginning is computed once a row: a segment of its own would cost attention about what it saves."""

STEP = 16
"""Lengths that matrix products see are rounded up to this, for the reason that text/batch.py:WIDTH_STEP gives."""

Indexes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Block:
    """Segments of like length that attend together: queries at places `queries_BT` see the keys at `keys_BS`.

    Query t of a segment sees its keys up to and including number `first` + t, which is itself.
    """

    queries_BT: Indexes
    keys_BS: Indexes
    first: int


@dataclass(frozen=True)
class Spans:
    """The same segments one after the other, without padding, E of them: for attention that takes their lengths.

    Segment e's queries are the places from `ends_E[e - 1]` to `ends_E[e]`; its keys are those of `keys_S` between the same
    numbers of `key_ends_E`, of which the last as many as it has queries are its own: query t sees all keys but the last T - 1 - t.
    """

    ends_E: Indexes
    key_ends_E: Indexes
    keys_S: Indexes


@dataclass(frozen=True)
class SharedBatch:
    """One sequence of `ids_N` at `positions_N`; the last place is a filler that no other place sees.

    All predictions are made at the places `needed_K` (a few more fill their number up to a multiple of `STEP`).
    Prediction m is made at place `sources_M[m]`, of token `targets_M[m]`, and counts for `counts_M[m]` rows. Learned
    token l of all `rows` is prediction `predictions_L[l]` and belongs to row `owners_L[l]`.
    """

    ids_N: Indexes
    positions_N: Indexes
    blocks: tuple[Block, ...]
    spans: Spans
    needed_K: Indexes
    sources_M: Indexes
    targets_M: Indexes
    counts_M: npt.NDArray[np.float32]
    predictions_L: Indexes
    owners_L: Indexes
    rows: Sequence[Encoded]
    places: Sequence[Indexes]
    """Where the inputs of each of `rows` stand in the sequence."""

    def row_sums(self, values_M: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """The sum over each of `rows` of what stands at the predictions of its learned tokens."""
        values_L = values_M[self.predictions_L]
        return np.bincount(self.owners_L, weights=values_L, minlength=len(self.rows)).astype(np.float64)


def shared_batches(rows: Sequence[Encoded], max_tokens: int, *, share: bool = True, side_by_side: int = 1) -> list[SharedBatch]:
    """Cut one step's rows into sequences of at most `max_tokens` tokens, rows with the same beginning together.

    A row longer than `max_tokens` travels alone. Every learned token of every row is counted. With `share` false,
    rows are laid side by side and nothing is shared. Where several sequences are computed `side_by_side`, there are a
    multiple of so many, of about equal size.
    """
    in_order = sorted(rows, key=_order)
    inputs = [row.ids_T[:-1] for row in in_order]
    known = [0, *(_worth(_common(a, b)) if share else 0 for a, b in pairwise(inputs))]
    sizes = [(len(ids), common) for ids, common in zip(inputs, known, strict=True)]
    numbers = range(len(rows))
    groups = _in_turn(numbers, sizes, max_tokens) if side_by_side == 1 else _balanced(sizes, max_tokens, side_by_side)
    return [_lay_out([in_order[number] for number in sorted(group.rows)], share) for group in groups]


@dataclass(slots=True)
class _Group:
    """Numbers of sorted rows, and the tokens that they compute."""

    rows: list[int]
    tokens: int


Sizes = Sequence[tuple[int, int]]
"""Of each sorted row its inputs, and how many of them the row before it begins with too."""


def _in_turn(numbers: Iterable[int], sizes: Sizes, limit: int) -> list[_Group]:
    """Sorted rows, cut where the next one would go beyond the limit."""
    groups: list[_Group] = []
    for number in numbers:
        inputs, known = sizes[number]
        if groups and groups[-1].tokens + inputs - known <= limit:
            groups[-1].rows.append(number)
            groups[-1].tokens += inputs - known
        else:
            groups.append(_Group([number], inputs))
    return groups


def _balanced(sizes: Sizes, max_tokens: int, side_by_side: int) -> list[_Group]:
    """A multiple of `side_by_side` groups, the largest of which is as small as was found, and within `max_tokens`."""
    total = sum(inputs - known for inputs, known in sizes)
    longest = max(inputs for inputs, _ in sizes)
    count = -(-total // (max_tokens * side_by_side)) * side_by_side
    while True:
        low, high = longest - 1, total
        found = _spread(sizes, high, count)
        while high - low > STEP:
            middle = (low + high) // 2
            groups = _spread(sizes, middle, count)
            if _largest(groups) <= middle:
                high, found = middle, groups
            else:
                low = middle
        if _largest(found) <= max(max_tokens, longest) or count >= len(sizes):
            return [group for group in found if group.rows]
        count += side_by_side


def _largest(groups: Sequence[_Group]) -> int:
    return max(group.tokens for group in groups)


def _spread(sizes: Sizes, limit: int, count: int) -> list[_Group]:
    """Rows that share a beginning, cut at the limit, go the largest first to the group with the fewest tokens.

    No order of this kind makes the largest group more than a third larger than it has to be (Graham 1969,
    doi.org/10.1137/0117039).
    """
    families: list[list[int]] = []
    for number, (_, known) in enumerate(sizes):
        if known:
            families[-1].append(number)
        else:
            families.append([number])
    pieces = [piece for family in families for piece in _in_turn(family, sizes, limit)]
    groups = [_Group([], 0) for _ in range(count)]
    for piece in sorted(pieces, key=lambda piece: piece.tokens, reverse=True):
        least = min(groups, key=lambda group: group.tokens)
        least.rows += piece.rows
        least.tokens += piece.tokens
    return groups


def computed_tokens(rows: Sequence[Encoded]) -> int:
    """The tokens of one step's rows, counting once what several of them begin with."""
    tokens, last = 0, np.zeros(0, dtype=np.int32)
    for row in sorted(rows, key=_order):
        tokens += len(row) - _worth(_common(last, row.ids_T[:-1]))
        last = row.ids_T[:-1]
    return tokens


def _order(row: Encoded) -> bytes:
    return row.ids_T[:-1].astype(">u4").tobytes()  # big-endian, so that bytes sort as the numbers do


def _common(a: npt.NDArray[np.int32], b: npt.NDArray[np.int32]) -> int:
    """How many tokens two rows have in common at their beginning."""
    length = min(len(a), len(b))
    different = np.flatnonzero(a[:length] != b[:length])
    return int(different[0]) if len(different) else length


def _worth(tokens: int) -> int:
    return tokens if tokens >= SHORTEST_SHARED else 0


@dataclass(frozen=True)
class _Segment:
    """Inputs `begin` to `end` of the sorted rows `low` to `high` (exclusive), which are the same in all of them."""

    low: int
    high: int
    begin: int
    end: int


def _segments(inputs: Sequence[npt.NDArray[np.int32]], share: bool) -> Iterator[_Segment]:
    """The tree of the sorted rows, each segment after those that it sees."""
    common = [_common(a, b) if share else 0 for a, b in pairwise(inputs)]
    waiting = [(0, len(inputs), 0)]
    while waiting:
        low, high, begin = waiting.pop()
        together = min(common[low : high - 1], default=len(inputs[low]))
        if high - low == 1 or together - begin >= SHORTEST_SHARED:
            if together > begin:
                yield _Segment(low, high, begin, together)
            begin = together
        if high - low > 1:
            cuts = [low, *(i + 1 for i in range(low, high - 1) if common[i] == together), high]
            waiting += [(a, b, begin) for a, b in pairwise(cuts)][::-1]


def _lay_out(rows: Sequence[Encoded], share: bool) -> SharedBatch:
    inputs = [row.ids_T[:-1] for row in rows]
    places = [np.zeros(len(ids), dtype=np.int64) for ids in inputs]
    ids: list[npt.NDArray[np.int32]] = []
    positions: list[Indexes] = []
    used = 0
    segments = list(_segments(inputs, share))
    for segment in segments:
        length = segment.end - segment.begin
        for row in range(segment.low, segment.high):
            places[row][segment.begin : segment.end] = np.arange(used, used + length)
        ids.append(inputs[segment.low][segment.begin : segment.end])
        positions.append(np.arange(segment.begin, segment.end))
        used += length
    filling = STEP - used % STEP
    filler = used + filling - 1
    sources_M, targets_M, counts_M, predictions_L, owners_L = _predictions(rows, places)
    return SharedBatch(
        np.concatenate([*ids, np.zeros(filling, dtype=np.int64)]).astype(np.int64),
        np.concatenate([*positions, np.zeros(filling, dtype=np.int64)]),
        _blocks(segments, places, filler),
        _spans(segments, places),
        _needed(sources_M, filler + 1),
        sources_M,
        targets_M,
        counts_M,
        predictions_L,
        owners_L,
        rows,
        places,
    )


def _needed(sources_M: Indexes, places: int) -> Indexes:
    """The sources, each once, and as many other places as make their number a multiple of `STEP`."""
    needed = np.zeros(places, dtype=bool)
    needed[sources_M] = True
    needed[np.flatnonzero(~needed)[: -np.count_nonzero(needed) % STEP]] = True
    return np.flatnonzero(needed)


def _blocks(segments: Sequence[_Segment], places: Sequence[Indexes], filler: int) -> tuple[Block, ...]:
    """Segments of the same rounded length and with as many tokens before them share a block."""
    alike: dict[tuple[int, int], list[_Segment]] = {}
    for segment in segments:
        alike.setdefault((segment.begin, _rounded(segment.end - segment.begin)), []).append(segment)
    blocks = []
    for (begin, queries), members in alike.items():
        queries_BT = np.full((len(members), queries), filler, dtype=np.int64)
        keys_BS = np.full((len(members), _rounded(begin + queries)), filler, dtype=np.int64)
        for index, segment in enumerate(members):
            seen = places[segment.low][: segment.end]
            queries_BT[index, : segment.end - begin] = seen[begin:]
            keys_BS[index, : segment.end] = seen
        blocks.append(Block(queries_BT, keys_BS, begin))
    return tuple(blocks)


def _spans(segments: Sequence[_Segment], places: Sequence[Indexes]) -> Spans:
    keys = [places[segment.low][: segment.end] for segment in segments]
    ends_E = np.cumsum([segment.end - segment.begin for segment in segments])
    return Spans(ends_E, np.cumsum([len(seen) for seen in keys]), np.concatenate(keys))


def _rounded(tokens: int) -> int:
    return -(-tokens // STEP) * STEP


def _predictions(
    rows: Sequence[Encoded], places: Sequence[Indexes]
) -> tuple[Indexes, Indexes, npt.NDArray[np.float32], Indexes, Indexes]:
    """Every learned token by where it is predicted and which it is; those that rows share are one prediction."""
    learned = [np.flatnonzero(row.weights_T[1:] > 0) for row in rows]
    sources_L = np.concatenate([place[at] for place, at in zip(places, learned, strict=True)])
    targets_L = np.concatenate([row.ids_T[1:][at] for row, at in zip(rows, learned, strict=True)])
    owners_L = np.repeat(np.arange(len(rows)), [len(at) for at in learned])
    (sources_M, targets_M), predictions_L, counts_M = np.unique(
        np.stack([sources_L, targets_L.astype(np.int64)]), axis=1, return_inverse=True, return_counts=True
    )
    return sources_M, targets_M, counts_M.astype(np.float32), predictions_L.reshape(-1), owners_L
