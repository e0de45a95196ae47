"""Rules about rows that repeat others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from journeyman.data.check.finding import Drop, Finding
from journeyman.data.check.rule import Rows, Rule, Sample, pair


def _duplicates(rows: Rows) -> Iterator[Finding]:
    """Rows of one split that repeat another word for word, input and ideal output."""
    same: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for index, example in enumerate(rows.all):
        said = tuple((m.role, m.content, repr(m.tool_calls)) for m in example.messages)
        same[(rows.splits[index], *said)].append(index)
    repeated = [indexes for indexes in same.values() if len(indexes) > 1]
    if repeated:
        extra = sum(len(indexes) - 1 for indexes in repeated)
        message = f"{extra} row(s) repeat another word for word; the first is {rows.shown(repeated[0][0])}"
        found = tuple(
            rows.found(i, f"repeats {rows.all[first].place}", Drop())
            for first, *rest in repeated
            for i in rest
        )
        yield Finding("duplicate_rows", "warning", message, found, "keep one of each", {"rows": extra})


def _near_duplicates(rows: Rows) -> Iterator[Finding]:
    """Inputs of the training rows that say nearly the same (word for word the same is for `duplicate_rows`)."""
    near: dict[int, dict[str, int]] = defaultdict(dict)
    for index in range(len(rows.train)):
        near[rows.input_groups[index]].setdefault(rows.normal_inputs[index], index)
    groups = [list(indexes.values()) for indexes in near.values() if len(indexes) > 1]
    if groups:
        count = sum(map(len, groups))
        message = (
            f"{count} inputs in {len(groups)} group(s) are nearly the same, such as {rows.shown(groups[0][0])} "
            f"and {rows.shown(groups[0][1])}"
        )
        found = tuple(
            rows.found(i, f"nearly {rows.all[group[0]].place}" if i != group[0] else "")
            for group in groups
            for i in group
        )
        fix = "harmless in small numbers: a group is kept in one split; many of them add little"
        yield Finding("near_duplicate_inputs", "info", message, found, fix, {"rows": count, "groups": len(groups)})


RULES = (
    Rule(
        "duplicate_rows",
        "Repeated rows",
        "warning",
        "rows of one split repeat another word for word, input and ideal output",
        "A row that stands there five times is learned five times: the model leans towards it.",
        "keep one of each",
        Sample([pair("Is the blue mug back?", "Yes, since Monday.")] * 2),
        _duplicates,
    ),
    Rule(
        "near_duplicate_inputs",
        "Inputs that are nearly the same",
        "info",
        "training inputs that say nearly the same",
        "They count as many rows and teach like one.",
        "harmless in small numbers: a group is kept in one split; many of them add little",
        Sample(
            [
                pair("How do I reset the password of my account", "Use the link on the sign-in page."),
                pair("How do I reset the password of my account now", "The sign-in page has a link for it."),
            ]
        ),
        _near_duplicates,
    ),
)
