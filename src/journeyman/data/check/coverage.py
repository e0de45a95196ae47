"""Rules about what the training rows hardly show: subjects with very few rows, and what is asked elsewhere.

Inputs are compared by the stems of their words, weighted by how telling they are (TF-IDF); a stem is a word's first
letters (McNamee and Mayfield 2004). What counts as far is taken from the data at hand: from how near each training row
comes to the nearest of the others that are no near-duplicates of it.

A subject that training leaves out is seldom far from all of it: its questions share words with those of other subjects.
What tells is the company that its rows keep: among the rows most like them, rows of the other file are more than their share
(a nearest-neighbour two-sample test, Schilling 1986, read row by row). How much more is usual is taken from training
rows, of which none is of a subject left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from sys import intern
from typing import Any

import numpy as np
import numpy.typing as npt

from journeyman.data.check.finding import Finding, FoundRow, FoundSplit, Severity
from journeyman.data.check.rule import Rows, Rule, Sample, pair
from journeyman.data.similar import FILLERS, normalised, words_of

Numbers = npt.NDArray[np.float64]
Indexes = npt.NDArray[np.int64]

MIN_ROWS = 30
"""Among fewer training rows nothing is usual."""

KNOWN_ROWS = 10_000
"""Of more training rows so many, drawn evenly, are what others are compared with first: time stays linear."""

USUAL_ROWS = 2_000
"""So many of those, drawn evenly, tell how near rows usually come to each other."""

BLOCK_ROWS = 500
"""Rows compared at a time: it bounds the memory."""

CHARACTERS = 1_000
"""So much of an input is compared."""

STEM_CHARACTERS = 6

FAR = 0.02
"""Farther from all others than all but this share of the training rows is far."""

UNUSUAL_SHARE = 3 * FAR
"""From this share of far rows on, other things are asked than training shows."""

UNUSUAL_ROWS = 5

COMPANY_ROWS = 20
"""So many of the rows most like a row are its company. Of 10, 15, 20 and 40 it named the most at the same precision (intents
held back from test and validation rows of BANKING77 and CLINC150)."""

COMPANY_LEAST = 200
"""Of fewer training rows, near-duplicates counted once, it is not known what company is kept by chance."""

COMPARED_ROWS = 5_000
"""The company is sought among so many rows of each side, drawn evenly, for so many of the rows that are asked."""

FALSE_SHARE = 0.2
"""So many rows are named that about this share of them would be named by chance, as told by the training rows."""

PRIOR = 0.02
"""Added to the likeness on both sides together: a row that little is like keeps no company."""

SPREADS = 3.0
"""A subject of its own is so many spreads (1.4826 times the median absolute deviation) below the usual nearness, and at most half as near."""

LEAST = 0.05
"""Rows that are less near than this have nothing telling in common, however scattered the data is."""

FEW_ROWS = 5
"""A subject with fewer rows is hardly learned, nor does a split leave any of it to measure by."""


Stems = Sequence[str]


def _stems(text: str) -> Stems:
    return [intern(word[:STEM_CHARACTERS]) for word in words_of(normalised(text[:CHARACTERS])) if word not in FILLERS]


class _Inputs:
    """The stems of training inputs, each found when it is first asked for: both rules look at the same ones."""

    def __init__(self, rows: Rows) -> None:
        self._inputs = rows.inputs
        self._known: dict[int, Stems] = {}

    def stems(self, index: int) -> Stems:
        """Those of one input."""
        if index not in self._known:
            self._known[index] = _stems(self._inputs[index])
        return self._known[index]


def _as_it_is(stems: Stems) -> Stems:
    return stems


class _Shown:
    """What training shows, and how near its rows usually come to each other."""

    def __init__(self, rows: Rows, others: Sequence[str]) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        self._rows = rows
        self._inputs = rows.once(_Inputs)
        self.known = _evenly(len(rows.train), KNOWN_ROWS)
        # Words of the others have to count even where training has none of them: they are what makes a row far.
        texts = [*map(self._inputs.stems, self.known.tolist()), *map(_stems, others)]
        self._counted: Any = TfidfVectorizer(analyzer=_as_it_is, sublinear_tf=True, dtype=np.float32)
        if any(texts):
            vectors = self._counted.fit_transform(texts).tocsr()
        else:  # scikit-learn refuses to count no word at all
            vectors = self._counted.fit([["nothing"]]).transform(texts).tocsr()
        self.vectors, self.of_others = vectors[: len(self.known)], vectors[len(self.known) :]
        groups = self.groups = np.array(rows.input_groups, np.int64)[self.known]
        self.usual = np.concatenate(
            [self._to_others(some, groups) for some in _blocks(_evenly(len(self.known), USUAL_ROWS))]
        )

    def _to_others(self, some: Indexes, groups: Indexes) -> Numbers:
        """How near each of some known rows is to the nearest that is of another group."""
        near = (self.vectors[some] @ self.vectors.T).tocsr()
        of_row = some[np.repeat(np.arange(len(some)), np.diff(near.indptr))]
        near.data[groups[of_row] == groups[near.indices]] = 0
        return _highest(near)[0]

    def nearest(self, vectors: Any) -> tuple[Numbers, Indexes]:
        """For each row how near the nearest training row is, and which."""
        near, which = _nearest(vectors, self.vectors)
        which = self.known[which]
        if len(self.known) < len(self._rows.train):
            # What looks far may be near to a training row that was not drawn.
            doubted = np.flatnonzero(near < self.far)[:KNOWN_ROWS]
            for some in _blocks(np.arange(len(self._rows.train)), KNOWN_ROWS):
                more, at = _nearest(vectors[doubted], self.vectors_of(some))
                nearer = more > near[doubted]
                near[doubted[nearer]], which[doubted[nearer]] = more[nearer], some[at[nearer]]
        return near, which

    def vectors_of(self, rows: Sequence[int] | Indexes) -> Any:
        """The vectors of any rows of training."""
        return self._counted.transform([self._inputs.stems(int(i)) for i in rows])

    @property
    def far(self) -> float:
        """Of the training rows the share FAR is farther than this from all others."""
        return float(np.quantile(self.usual, FAR))

    @property
    def apart(self) -> float:
        """What is farther than this from all others is a subject of its own."""
        middle = float(np.median(self.usual))
        return max(
            LEAST, min(middle / 2, middle - SPREADS * 1.4826 * float(np.median(np.abs(self.usual - middle))))
        )


def _nearest(vectors: Any, known: Any) -> tuple[Numbers, Indexes]:
    near, which = np.zeros(vectors.shape[0]), np.zeros(vectors.shape[0], np.int64)
    for some in _blocks(np.arange(vectors.shape[0])):
        near[some], which[some] = _highest(vectors[some] @ known.T)
    return near, which


def _highest(near: Any) -> tuple[Numbers, Indexes]:
    """The highest value of each row of a sparse matrix without negative ones, and its first column; 0 and 0 of an empty row."""
    highest, which = np.zeros(near.shape[0]), np.zeros(near.shape[0], np.int64)
    full = np.flatnonzero(np.diff(near.indptr))
    if len(full):
        starts = near.indptr[full]
        highest[full] = np.maximum.reduceat(near.data, starts)
        is_highest = near.data == np.repeat(highest, np.diff(near.indptr))
        which[full] = np.minimum.reduceat(np.where(is_highest, near.indices, near.shape[1]), starts)
    return highest, which


def _evenly(count: int, most: int) -> Indexes:
    return np.arange(count) if count <= most else np.linspace(0, count - 1, most).astype(np.int64)


def _blocks(of: Indexes, size: int = BLOCK_ROWS) -> Iterator[Indexes]:
    for start in range(0, len(of), size):
        yield of[start : start + size]


def _hardly_shown(rows: Rows) -> Iterator[Finding]:
    """Rows to measure on, and of a file to compare with, that ask what training hardly shows."""
    if len(rows.train) < MIN_ROWS:
        return
    held_out = len(rows.train) + len(rows.validation)
    asked: tuple[tuple[FoundSplit, str, list[str]], ...] = (
        ("held_out", "held-out rows", rows.inputs[held_out:]),
        ("against", "rows of the file to compare with", [one.input for one in rows.against]),
    )
    if not any(texts for _, _, texts in asked):
        return
    shown = _Shown(rows, [text for _, _, texts in asked for text in texts])
    if not shown.far:
        return
    near, which = shown.nearest(shown.of_others)
    groups = np.array(rows.input_similarity.near, np.int64)[held_out:]
    start = 0
    for split, name, texts in asked:
        part = slice(start, start + len(texts))
        far = [i for i in np.argsort(near[part], kind="stable").tolist() if near[start + i] < shown.far]
        if len(far) < max(UNUSUAL_ROWS, UNUSUAL_SHARE * len(texts)):
            # So few are as far as that anywhere; of a file to compare with, what is a subject of its own is shown all the same.
            far = [i for i in far if near[start + i] < shown.apart] if split == "against" else []
        company = _company_of_others(shown, shown.of_others[part], groups[part])
        seldom = [(i, share) for i, share in company if i not in set(far)]
        if far or seldom:
            found = (
                *(_far_row(rows, split, i, near[start + i], int(which[start + i])) for i in far),
                *(_seldom_row(rows, split, i, share, int(which[start + i])) for i, share in seldom),
            )
            first = found[0]
            share = len(found) / len(texts)
            many = len(found) >= max(UNUSUAL_ROWS, UNUSUAL_SHARE * len(texts))
            # A subject is a part of a file. What holds for most of it is a matter of where it comes from.
            as_a_whole = len(seldom) > len(texts) / 2
            severity: Severity = "warning" if many and not as_a_whole else "info"
            message = (
                f"{len(found)} of {len(texts)} {name} ({share:.1%}) are more like each other than like training rows, "
                f"so that the file as a whole is another, such as {first.place} {first.note}"
                if as_a_whole
                else f"{len(found)} of {len(texts)} {name} ({share:.1%}) ask what training hardly shows, such as {first.place} {first.note}"
            )
            fix = (
                "look whether they are of another source or time; if that is as it should be, nothing needs mending"
                if as_a_whole
                else "add training rows of those subjects, or let something else answer them"
            )
            numbers = {
                "split": split,
                "rows": len(found),
                "of": len(texts),
                "share": round(share, 4),
                "far": len(far),
                "near": round(shown.far, 4),
            }
            yield Finding("hardly_shown", severity, message, found, fix, numbers)
        start += len(texts)


def _company_of_others(shown: _Shown, others: Any, groups: Indexes) -> list[tuple[int, float]]:
    """The rows of others that are in the company of others, and to what share, so that few of them can be so by chance.

    Each side's rows weigh the same in all, however many there are. A row's own near-duplicates are no company, and what
    has one in training is shown.
    """
    looked_at = _evenly(len(groups), COMPARED_ROWS)
    size = len(looked_at)
    looked_at = looked_at[~np.isin(groups[looked_at], shown.groups)]
    ours, theirs = _one_each(shown.groups), _one_each(groups)
    if len(ours) < COMPANY_LEAST or len(theirs) < UNUSUAL_ROWS or len(looked_at) < UNUSUAL_ROWS:
        return []
    from scipy.sparse import vstack

    sides = np.repeat([0.0, len(ours) / len(theirs)], [len(ours), len(theirs)])
    pool = vstack([shown.vectors[ours], others[theirs]]).tocsr().T
    pooled = np.concatenate([shown.groups[ours], groups[theirs]])
    usual = _evenly(len(shown.known), USUAL_ROWS)
    by_chance = np.sort(_share_of_others(shown.vectors[usual], shown.groups[usual], pool, pooled, sides))
    shares = _share_of_others(others[looked_at], groups[looked_at], pool, pooled, sides)
    order = np.argsort(-shares, kind="stable")
    above = len(by_chance) - np.searchsorted(by_chance, shares[order], side="left")
    # One more by chance than was seen, so that no few rows are sure.
    falsely = (above + 1) / len(usual) * size / np.arange(1, len(order) + 1)
    # Whatever chance gives, a row that is more like training than like its own file is shown.
    enough = np.flatnonzero((falsely <= FALSE_SHARE) & (shares[order] > 0.5))
    if not len(enough) or enough[-1] + 1 < UNUSUAL_ROWS:
        return []
    return [(int(looked_at[at]), float(shares[at])) for at in order[: enough[-1] + 1]]


def _one_each(groups: Indexes) -> Indexes:
    """A row of each group, at most COMPARED_ROWS of them, drawn evenly."""
    _, first = np.unique(groups, return_index=True)
    first.sort()
    return first[_evenly(len(first), COMPARED_ROWS)]


def _share_of_others(some: Any, groups: Indexes, pool: Any, pooled: Indexes, sides: Numbers) -> Numbers:
    """For each row the share of others in its company, the rows of the pool weighted by the square of their likeness."""
    shares = np.zeros(some.shape[0])
    for block in _blocks(np.arange(some.shape[0])):
        near = (some[block] @ pool).tocsr()
        for at, row in enumerate(block.tolist()):
            part = slice(near.indptr[at], near.indptr[at + 1])
            columns = near.indices[part]
            weights = np.where(pooled[columns] == groups[row], 0.0, near.data[part]) ** 2
            if len(weights) > COMPANY_ROWS:
                nearest = np.argpartition(-weights, COMPANY_ROWS)[:COMPANY_ROWS]
                columns, weights = columns[nearest], weights[nearest]
            of_others = float((weights * sides[columns]).sum())
            of_training = float(weights[sides[columns] == 0].sum())
            shares[row] = (of_others + PRIOR / 2) / (of_others + of_training + PRIOR)
    return shares


def _far_row(rows: Rows, split: FoundSplit, index: int, near: float, nearest: int) -> FoundRow:
    note = (
        f"likeness {near:.2f} to the nearest, {rows.all[nearest].place}"
        if near
        else "has nothing in common with any training row"
    )
    return _row_of(rows, split, index, note)


def _seldom_row(rows: Rows, split: FoundSplit, index: int, share: float, nearest: int) -> FoundRow:
    note = f"{share:.0%} of what is most like it is of its own file; nearest in training is {rows.all[nearest].place}"
    return _row_of(rows, split, index, note)


def _row_of(rows: Rows, split: FoundSplit, index: int, note: str) -> FoundRow:
    if split == "against":
        return FoundRow(rows.against[index].place, split, index, note)
    return rows.found(len(rows.train) + len(rows.validation) + index, note)


def _thin(rows: Rows) -> Iterator[Finding]:
    """Groups of few inputs that are near to each other at most. Where outputs are labels, `rare_labels` counts them."""
    if rows.labels is not None or len(rows.train) < MIN_ROWS:
        return
    shown = _Shown(rows, ())
    groups = _thin_groups(rows, shown)
    if not groups:
        return
    found = [i for group in groups for i in group]
    message = (
        f"{len(groups)} subject(s) with fewer than {FEW_ROWS} training rows, {len(found)} row(s) in all, that have little in common with "
        f"any other row, such as {rows.shown(found[0])}"
    )
    fix = "add rows of those subjects, or leave them out"
    numbers = {"subjects": len(groups), "rows": len(found), "near": round(shown.apart, 4)}
    yield Finding(
        "thin_subjects",
        "info",
        message,
        tuple(rows.found(i, _company(rows, group, i)) for group in groups for i in group),
        fix,
        numbers,
    )


def _company(rows: Rows, group: Sequence[int], index: int) -> str:
    others = ", ".join(str(rows.all[i].place) for i in group if i != index)
    return f"only {others} asks alike" if others else "no other row asks alike"


def _thin_groups(rows: Rows, shown: _Shown) -> list[list[int]]:
    """Rows linked by a nearness of `apart` or more, where so few are: the rows of each group, the smallest group first."""
    from scipy.sparse import coo_array, csr_array
    from scipy.sparse.csgraph import connected_components

    links: list[Any] = []
    size, apart = len(shown.known), shown.apart
    for some in _blocks(np.arange(size)):
        near = (shown.vectors[some] @ shown.vectors[some[0] :].T).tocsr()
        linked = np.flatnonzero(near.data >= apart)
        links.append(np.stack([some[np.searchsorted(near.indptr, linked, side="right") - 1], some[0] + near.indices[linked]]))
    starts, ends = np.concatenate(links, axis=1)
    _, of = connected_components(
        csr_array(coo_array((np.ones(len(starts), np.bool_), (starts, ends)), shape=(size, size))),
        directed=False,
    )
    counts = np.bincount(of)
    few = np.flatnonzero(counts[of] < FEW_ROWS)
    by_group: dict[int, list[int]] = {}
    for i in few.tolist():
        by_group.setdefault(int(of[i]), []).append(int(shown.known[i]))
    thin = sorted(by_group.values(), key=lambda group: (len(group), group))
    return thin if size == len(rows.train) else _thin_among_all(rows, shown, thin)


def _thin_among_all(rows: Rows, shown: _Shown, groups: Sequence[list[int]]) -> list[list[int]]:
    """Those of the drawn groups that few of the rows that were not drawn are near to; with these."""
    if not groups:
        return []
    of = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    drawn = shown.vectors_of([i for group in groups for i in group])
    alike: list[set[int]] = [set(group) for group in groups]
    apart = shown.apart
    for some in _blocks(np.arange(len(rows.train)), KNOWN_ROWS):
        vectors = shown.vectors_of(some)
        for part in _blocks(np.arange(len(some))):
            near = (vectors[part] @ drawn.T).tocoo()
            linked = near.data >= apart
            for row, column in zip(some[part[near.row[linked]]].tolist(), near.col[linked].tolist(), strict=True):
                if len(alike[of[column]]) < FEW_ROWS:
                    alike[of[column]].add(row)
    return [sorted(group) for group in alike if len(group) < FEW_ROWS]


_MUGS = [
    pair(f"is the {colour} {thing} {asked}", f"Yes, it is {asked}: the {colour} {thing}.")
    for colour in ("blue", "green", "white")
    for thing in ("mug", "bowl", "vase", "teapot")
    for asked in ("back in the shop again", "safe to put in the oven", "sold with a lid")
]

RULES = (
    Rule(
        "hardly_shown",
        "Asked elsewhere, hardly shown in training",
        "warning",
        f"rows of the file given by `--against`, or held-out rows, that are more like each other than like training rows; and those farther "
        f"from every training row than {1 - FAR:.0%} of the training rows are from the nearest other, where they are {UNUSUAL_SHARE:.0%} of the "
        f"file or stand quite alone; a warning from {UNUSUAL_SHARE:.0%} of the file's rows on, for your information below",
        "What a model was not shown it answers as its base would, in another voice and form, or as something that only looks alike.",
        "add training rows of those subjects, or let something else answer them",
        Sample(
            _MUGS,
            against=[
                "is the white teapot sold with a lid please",
                *(
                    f"which courier brings parcels to {town}"
                    for town in ("Graz", "Lyon", "Ghent", "Turku", "Porto")
                ),
            ],
        ),
        _hardly_shown,
    ),
    Rule(
        "thin_subjects",
        "Subjects with very few rows",
        "info",
        f"where outputs are no labels, fewer than {FEW_ROWS} training rows ask about something that no other asks about",
        "So few rows are hardly learned, and no split leaves enough of them to see whether they were.",
        "add rows of those subjects, or leave them out",
        Sample([*_MUGS, pair("which courier brings parcels home", "Our own van does.")]),
        _thin,
    ),
)
