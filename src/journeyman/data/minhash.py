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
Mask = npt.NDArray[np.bool_]

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
    by_rank = np.argsort(np.asarray(order)[full], kind="stable")
    minima_SM = _minima(sets, full)[by_rank]
    full = full[by_rank]
    seen = np.empty(0, np.int64)
    for band in range(BANDS):
        one, other = _to_compare(_one_number(minima_SM[:, band * ROWS : (band + 1) * ROWS]))
        pairs = np.sort(one * len(full) + other)
        pairs = pairs[~are_in(pairs, seen)]
        seen = np.sort(np.concatenate([seen, pairs]), kind="stable")
        one, other = np.divmod(pairs, max(1, len(full)))
        for a, b in _likely(minima_SM, one, other, similarity - SLACK):
            if _jaccard(sets.one(full[a]), sets.one(full[b])) >= similarity:
                yield int(full[a]), int(full[b])


def _likely(minima_SM: npt.NDArray[np.uint32], one: Ids, other: Ids, agreement: float) -> Iterator[tuple[int, int]]:
    """The pairs whose hashes agree in such a share."""
    for start in range(0, len(one), BLOCK):
        a, b = one[start : start + BLOCK], other[start : start + BLOCK]
        agree = np.mean(minima_SM[a] == minima_SM[b], axis=1)
        yield from zip(a[agree >= agreement].tolist(), b[agree >= agreement].tolist(), strict=True)


def are_in(some: Ids, known: Ids) -> Mask:
    """Whether each of some numbers is among others, which are sorted."""
    if not len(known):
        return np.zeros(len(some), np.bool_)
    return np.asarray(known[np.minimum(np.searchsorted(known, some), len(known) - 1)] == some, np.bool_)


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


def _to_compare(key: npt.NDArray[np.uint64]) -> tuple[Ids, Ids]:
    """The pairs that have a key in common: each set with the COMPARED first ones of its key at most."""
    # Numbers are sorted faster than places by number; the bits of the key that the places take are not missed.
    place_bits = (1 << len(key).bit_length()) - 1
    by_key = (np.sort(key & np.uint64(~place_bits % 2**64) | np.arange(len(key), dtype=np.uint64)) & np.uint64(place_bits)).astype(np.int64)
    places = np.arange(len(key))
    begins = np.ones(len(key), np.bool_)
    begins[1:] = key[by_key][1:] != key[by_key][:-1]
    first = np.maximum.accumulate(np.where(begins, places, 0))
    partners = np.minimum(places - first, COMPARED)
    nth = np.arange(partners.sum()) - np.repeat(np.cumsum(partners) - partners, partners)
    return by_key[np.repeat(first, partners) + nth], by_key[np.repeat(places, partners)]


def _jaccard(a: Ids, b: Ids) -> float:
    shared = len(set(a.tolist()).intersection(b.tolist()))
    return shared / (len(a) + len(b) - shared)
