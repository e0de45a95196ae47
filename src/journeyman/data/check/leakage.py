"""Rules about rows that stand on both sides of a split."""

from __future__ import annotations

from collections.abc import Iterator

from journeyman.data.check.finding import Finding
from journeyman.data.check.rule import Rows, Rule, Sample, pair


def _leakage(rows: Rows) -> Iterator[Finding]:
    """Training rows whose input is nearly one of validation or held-out: scores on those would flatter the model."""
    groups = rows.input_groups
    trained = {groups[index]: index for index in reversed(range(len(rows.train)))}
    for split, name in (("validation", "validation"), ("held_out", "held-out")):
        own = [index for index, of in enumerate(rows.splits) if of == split]
        leaks = [(trained[groups[index]], index) for index in own if groups[index] in trained]
        if leaks:
            ours, theirs = leaks[0]
            message = (
                f"{len(leaks)} of {len(own)} {name} row(s) have an input that is also trained on, such as "
                f"{rows.shown(theirs)} and {rows.shown(ours)}"
            )
            found = tuple(
                rows.found(i, f"stands also at {rows.all[other].place}")
                for pair_ in leaks
                for i, other in (pair_, pair_[::-1])
            )
            fix = f"remove them from the training file or from the {name} file"
            yield Finding("leakage", "warning", message, found, fix, {"split": split, "rows": len(leaks)})


RULES = (
    Rule(
        "leakage",
        "Rows on both sides of a split",
        "warning",
        "a training row's input is nearly one of validation or held-out rows",
        "Scores on those rows flatter the model: it has seen the answers.",
        "remove one of the two",
        Sample(
            [pair("Is the blue mug back?", "Yes, since Monday.")],
            held_out=[pair("Is the blue mug back?", "Yes, since Monday.")],
        ),
        _leakage,
    ),
)
