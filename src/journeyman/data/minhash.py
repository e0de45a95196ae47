"""Sets of words that have most of their elements in common, in time linear in the words.

Each set is summed up by MINIMA hashes (Broder 1997): two sets agree in one of them with the probability of their
Jaccard similarity. Sets that agree in all ROWS hashes of one of BANDS bands are compared (Indyk and Motwani 1998).
At a similarity of 0.75 a pair escapes all bands in 5 of 1,000,000 cases, at 0.8 in 1 of 10,000,000; of pairs at 0.2, 1 in 20
is compared for nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]

BANDS, ROWS = 32, 4
MINIMA = BANDS * ROWS
BLOCK = 2048
"""So many sets are hashed at a time, which keeps the work in the processor's cache."""

COMPARED = 20
"""In a larger bucket each set is compared with so many of its first ones only, so that time stays linear."""

SLACK = 0.18
"""A pair whose hashes agree in so much less than the similarity asked for is not compared element by element:
four standard errors of an estimate from MINIMA hashes."""


class Sets:
    """Sets of integers, one after the other in `flat`; set i is `flat[starts[i]:starts[i + 1]]`."""

    def __init__(self, flat: Ids, starts: Ids) -> None:
        self.flat = flat
        self.starts = starts

    def __len__(self) -> int:
        return len(self.starts) - 1

    def one(self, index: int) -> Ids:
        """The elements of one set."""
        return self.flat[self.starts[index] : self.starts[index + 1]]


def near_pairs(sets: Sets, similarity: float, order: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Pairs of sets whose Jaccard similarity is at least `similarity`; empty sets are like no other.

    `order` ranks the sets by what they say, so that the pairs do not depend on how they stand in the file. Of many
    sets that are all alike not every pair is given, but all are linked.
    """
    full = np.flatnonzero(np.diff(sets.starts))
    minima_SM = _minima(sets, full)
    ranks = np.asarray(order)[full]
    seen: set[tuple[int, int]] = set()
    for band in range(BANDS):
        key = _one_number(minima_SM[:, band * ROWS : (band + 1) * ROWS])
        for bucket in _buckets(key, ranks):
            for a, b in _to_compare(bucket):
                one, other = int(full[a]), int(full[b])
                if (one, other) in seen:
                    continue
                seen.add((one, other))
                agree = float(np.mean(minima_SM[a] == minima_SM[b]))
                if agree >= similarity - SLACK and _jaccard(sets.one(one), sets.one(other)) >= similarity:
                    yield one, other


def _minima(sets: Sets, full: Ids) -> npt.NDArray[np.uint32]:
    """For each set of `full` its smallest element under each of MINIMA hashes."""
    factors = np.random.default_rng(0).integers(1, 2**63, MINIMA, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    out_SM = np.empty((len(full), MINIMA), np.uint32)
    mixed = _mixed(sets.flat.astype(np.uint64))
    for start in range(0, len(full), BLOCK):
        block = full[start : start + BLOCK]
        first, last = sets.starts[block[0]], sets.starts[block[-1] + 1]
        elements, at = mixed[first:last], sets.starts[block] - first
        for number, factor in enumerate(factors):
            # Dietzfelbinger's multiply-shift: the high half of a product with a random odd number.
            hashed = (elements * factor) >> np.uint64(32)
            out_SM[start : start + len(block), number] = np.minimum.reduceat(hashed, at)
    return out_SM


def _mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """SplitMix64: neighbouring integers become unrelated ones, and none stays 0."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _one_number(hashes_SR: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint64]:
    key = np.zeros(len(hashes_SR), np.uint64)
    for column in hashes_SR.T:
        key = _mixed(key ^ column.astype(np.uint64))
    return key


def _buckets(key: npt.NDArray[np.uint64], ranks: Ids) -> Iterator[Ids]:
    """The members of each key that several sets have, by rank."""
    by_key = np.lexsort((ranks, key))
    ends = np.flatnonzero(np.diff(key[by_key])) + 1
    edges = np.concatenate([[0], ends, [len(key)]])
    for number in np.flatnonzero(np.diff(edges) > 1):
        yield by_key[edges[number] : edges[number + 1]]


def _to_compare(bucket: Ids) -> Iterator[tuple[int, int]]:
    for place, other in enumerate(bucket):
        for one in bucket[: min(place, COMPARED)]:
            yield int(one), int(other)


def _jaccard(a: Ids, b: Ids) -> float:
    shared = len(set(a.tolist()).intersection(b.tolist()))
    return shared / (len(a) + len(b) - shared)
