"""Rules about inputs that have several, different ideal outputs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from journeyman.data.check.disagree import Wording, disagreement, wording
from journeyman.data.check.finding import Finding, FoundRow, Mend, SetOutput, Severity
from journeyman.data.check.rule import Rows, Rule, Sample, pair
from journeyman.data.refused import quoted

COMPARED = 10
"""Of more different outputs of one input, each is compared with so many."""

MUCH = 0.05
MANY = 5
"""From this share of the rows and so many inputs on, the dataset has no one answer to learn."""

CLEAR_MAJORITY = 3
"""So many rows must say the same, for one that does not, to be taken for right."""

AtOdds = dict[int, tuple[int, int, str]]
"""For each row that contradicts another: the two rows, and what they disagree in."""


def _same_inputs(rows: Rows) -> list[list[int]]:
    """Rows that ask the same under the same instructions, where their outputs are not all the same."""
    same: dict[tuple[int, str], list[int]] = defaultdict(list)
    for index in range(len(rows.all)):
        same[rows.input_similarity.same[index], rows.systems[index]].append(index)
    return [group for group in same.values() if len({rows.normal_outputs[i] for i in group}) > 1]


def _contradictions(rows: Rows) -> Iterator[Finding]:
    found: list[FoundRow] = []
    torn: list[tuple[int, int, str]] = []
    for _, at_odds in rows.once(_answered_otherwise):
        if at_odds:
            torn.append(next(iter(at_odds.values())))
        mends = _majority(rows, list(at_odds))
        found += [rows.found(i, f"{what}, see {rows.all[b if i == a else a].place}", mends.get(i)) for i, (a, b, what) in at_odds.items()]
    if torn:
        a, b, what = torn[0]
        share = len(found) / len(rows.all)
        message = (
            f"{len(torn)} input(s) have outputs that contradict each other: {rows.shown(a)} is answered "
            f"{quoted(rows.outputs[a])} and {quoted(rows.outputs[b])} ({what})"
        )
        numbers = {"inputs": len(torn), "rows": len(found), "share": round(share, 4)}
        severity: Severity = "error" if share >= MUCH and len(torn) >= MANY else "warning"
        fix = "decide which is right; the model learns a mixture of both"
        yield Finding("contradictory_outputs", severity, message, tuple(found), fix, numbers)


def _answered_otherwise(rows: Rows) -> list[tuple[list[int], AtOdds]]:
    """Each group of `_same_inputs`, with the rows of it that contradict others."""
    written = wording(rows.inputs, rows.outputs)
    return [(group, _at_odds(rows, group, written)) for group in _same_inputs(rows)]


def _at_odds(rows: Rows, group: Sequence[int], wording: Wording) -> AtOdds:
    """For each row of a group that contradicts another: the two rows, and what they disagree in."""
    by_output: dict[str, list[int]] = defaultdict(list)
    for index in group:
        by_output[rows.normal_outputs[index]].append(index)
    different = list(by_output.values())
    out: AtOdds = {}
    for place, one in enumerate(different):
        for other in different[max(0, place - COMPARED) : place]:
            what = _disagreement(rows, other[0], one[0], wording)
            for index in (*other, *one) if what else ():
                out.setdefault(index, (other[0], one[0], what or ""))
    return out


def _disagreement(rows: Rows, a: int, b: int, wording: Wording) -> str | None:
    if rows.labels is not None:
        return f"{quoted(rows.labels[a])} / {quoted(rows.labels[b])}"
    return disagreement(rows.outputs[a], rows.outputs[b], rows.inputs[a], wording)


def _majority(rows: Rows, at_odds: Sequence[int]) -> dict[int, Mend]:
    """For rows that stand against a clear majority: its output."""
    counts = Counter(rows.normal_outputs[i] for i in at_odds)
    if not counts:
        return {}
    (most, count), *others = counts.most_common()
    if count < CLEAR_MAJORITY or any(count < CLEAR_MAJORITY * other for _, other in others):
        return {}
    right = next(i for i in at_odds if rows.normal_outputs[i] == most)
    return {i: SetOutput(rows.outputs[right]) for i in at_odds if rows.normal_outputs[i] != most}


def _several(rows: Rows) -> Iterator[Finding]:
    """The same input answered in several ways that do not contradict each other."""
    if rows.labels is not None:
        return
    groups = [group for group, at_odds in rows.once(_answered_otherwise) if not at_odds]
    if groups:
        found = tuple(rows.found(i) for group in groups for i in group)
        message = f"{len(groups)} input(s) are answered in several ways, such as {rows.shown(groups[0][0])} and {rows.all[groups[0][1]].place}"
        fix = "fine where variety is wanted; keep the best answer where one voice is"
        yield Finding("several_outputs", "info", message, found, fix, {"inputs": len(groups), "rows": len(found)})


RULES = (
    Rule(
        "contradictory_outputs",
        "Contradicting outputs for the same input",
        "error",
        "the same input (politeness, word order and misspellings aside) has ideal outputs that can't both be right: "
        "other labels or JSON values, other numbers or names, yes and no; an error from 5 inputs and 5% of the rows on",
        "The model can't tell when to say which, and learns a mixture of both.",
        "decide which is right",
        Sample(
            [
                pair("Is the blue mug back?", "Yes, since Monday."),
                pair("is the blue mug back please?", "No, not before May."),
                pair("How long is the guarantee on lamps?", "Two years from the day of purchase."),
                pair("How long is the guarantee on the lamps?", "Three years, if you keep the receipt."),
                pair("Who do I ask about the oak table?", "Please write to Marit in the workshop."),
                pair("who do I ask about the oak table", "Please write to Jonas in the workshop."),
                pair("Can I wash the wool blanket?", "You can wash it by hand."),
                pair("Can I wash the wool blanket??", "Please don't wash it; have it cleaned."),
                pair("What does the small teapot cost?", "It costs €24."),
                pair("Hi, what does the small teapot cost?", "It costs €29."),
            ]
        ),
        _contradictions,
    ),
    Rule(
        "several_outputs",
        "Several answers to the same input",
        "info",
        "the same input has several outputs that do not contradict each other",
        "Variety is learned too: the model will answer the same question in different words each time.",
        "fine where variety is wanted; keep the best answer where one voice is",
        Sample(
            [
                pair("How do I clean the stoneware bowl?", "Warm water and a soft cloth will do."),
                pair("How do I clean the stoneware bowl?", "Wipe it with a soft cloth and warm water."),
            ]
        ),
        _several,
    ),
)
