"""Rules about rows that stand on both sides of a split, or in a file that nothing should be learned from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

from journeyman.data.check.finding import Drop, Finding, FoundRow, Severity
from journeyman.data.check.rule import Rows, Rule, Sample, pair
from journeyman.data.similar import all_but_one

MUCH = 0.05
"""From this share of the measured rows on, what was learned by heart weighs as much in a score as many real gains."""

SPLIT_OFF = (
    "nothing, where real inputs repeat themselves so; else keep fewer rows of one template, or measure on a file of your own "
    "(--validation, --held-out)"
)
"""What to do about rows of one file that the split has parted: it keeps near-duplicates together, and these are less alike."""


def _leakage(rows: Rows) -> Iterator[Finding]:
    start = len(rows.train)
    for split, name, size in (
        ("validation", "validation", len(rows.validation)),
        ("held_out", "held-out", len(rows.held_out)),
    ):
        measured = range(start, start + size)
        start += size
        yield from _leaks(rows, "leakage", measured, f"{name} rows", split)


def _leaks_against(rows: Rows) -> Iterator[Finding]:
    measured = range(len(rows.all), len(rows.all) + len(rows.against))
    yield from _leaks(rows, "leakage_against", measured, "rows of the file to compare with", "against")


def _leaks(rows: Rows, code: str, measured: Sequence[int], name: str, split: str) -> Iterator[Finding]:
    """Rows of `measured` that ask what a training row asks, and those that ask nearly the same.

    Rows that were split off from the file that is trained on are never near-duplicates of a training row (`split.py`): what is left
    of them is alike by its template, and said to be that.
    """
    same = _in_common(rows, rows.input_similarity.same, measured)
    near = _in_common(rows, rows.input_similarity.near, [i for i in measured if i not in same])
    word = _but_for_a_word(rows, [i for i in measured if i not in same and i not in near])
    own = set(rows.own)
    parted = {i: found for i, found in word.items() if i in own}
    near |= {i: found for i, found in word.items() if i not in own}
    share = len(same) / len(measured) if measured else 0.0
    grave: Severity = "error" if share >= MUCH and split == "held_out" else "warning"
    cases: tuple[tuple[dict[int, list[int]], str, Severity, str], ...] = (
        (same, "the same input as", grave, "remove the training rows, or measure on others"),
        (near, "nearly the same input as", "info", "remove the training rows, or measure on others"),
        (parted, "the output and, but for a word, the input of", "info", SPLIT_OFF),
    )
    for leaks, how, severity, fix in cases:
        if leaks:
            theirs, ours = next((theirs, found[0]) for theirs, found in leaks.items())
            trained = {i: theirs for theirs, found in leaks.items() for i in found}
            place = _place(rows)
            message = (
                f"{len(leaks)} of {len(measured)} {name} have {how} a training row, such as {place(theirs)} and "
                f"{rows.shown(ours)}"
            )
            # A file to compare with may be a log of traffic, which training rows should be like.
            mend = Drop() if leaks is same and split != "against" else None
            found = (
                *(rows.found(i, f"{how} {place(other)}", mend) for i, other in trained.items()),
                *(_measured(rows, i, f"{how} {place(found[0])}") for i, found in leaks.items()),
            )
            numbers = {"split": split, "rows": len(leaks), "share": round(len(leaks) / len(measured), 4)}
            yield Finding(code, severity, message, found, fix, numbers)


def _in_common(rows: Rows, groups: Sequence[int], measured: Sequence[int]) -> dict[int, list[int]]:
    """For each measured row whose group has training rows: those."""
    trained: dict[int, list[int]] = defaultdict(list)
    for index in range(len(rows.train)):
        trained[groups[index]].append(index)
    return {index: trained[groups[index]] for index in measured if groups[index] in trained}


def _but_for_a_word(rows: Rows, measured: Sequence[int]) -> dict[int, list[int]]:
    """For each measured row with a short input that has all words but one of training rows', and the same output: those."""
    trained: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for index in range(len(rows.train) if measured else 0):
        for kept in all_but_one(rows.short_inputs[index]):
            trained[rows.normal_outputs[index], kept].append(index)
    out: dict[int, list[int]] = {}
    for index in measured:
        if index < len(rows.all):
            keys = [(rows.normal_outputs[index], kept) for kept in all_but_one(rows.short_inputs[index])]
            found = sorted({one for key in keys for one in trained.get(key, ())})
            if found:
                out[index] = found
    return out


def _place(rows: Rows) -> Callable[[int], str]:
    def place(index: int) -> str:
        size = len(rows.all)
        return str(rows.all[index].place if index < size else rows.against[index - size].place)

    return place


def _measured(rows: Rows, index: int, note: str) -> FoundRow:
    size = len(rows.all)
    if index < size:
        return rows.found(index, note)
    return FoundRow(rows.against[index - size].place, "against", index - size, note)


_MUG = pair("Is the blue mug back in the shop?", "Yes, since Monday.")

RULES = (
    Rule(
        "leakage",
        "Rows on both sides of a split",
        "error",
        "a training row asks what a validation or held-out row asks: an error from 5% of the held-out rows on; rows "
        "that ask nearly the same are for your information. Of one file's rows near-duplicates are never parted; those that are "
        "the same but for a word may be, and are for your information too",
        "Scores on those rows flatter the model: it has seen the answers.",
        "remove the training rows, or measure on others",
        Sample([_MUG], held_out=[_MUG]),
        _leakage,
    ),
    Rule(
        "leakage_against",
        "Rows of a file to compare with",
        "warning",
        "a training row asks what a row of the file given by `--against` asks",
        "Where the file is a test set, what is measured on it is no longer a measure of anything new. Where it is a log of "
        "traffic, all is well.",
        "remove the training rows from a file that you measure on",
        Sample([_MUG], against=["is the blue mug back in the shop please?"]),
        _leaks_against,
    ),
)
