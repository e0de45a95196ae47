"""Rules about inputs that have several, different ideal outputs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from journeyman.data.check.finding import Finding
from journeyman.data.check.rule import Rows, Rule, Sample, pair
from journeyman.data.refused import quoted
from journeyman.data.similar import normalised


def _contradictions(rows: Rows) -> Iterator[Finding]:
    """The same input with different ideal outputs."""
    same: dict[tuple[object, ...], dict[str, int]] = defaultdict(dict)
    for index, example in enumerate(rows.all):
        asked = tuple((m.role, normalised(m.content)) for m in example.prompt)
        same[asked].setdefault(rows.normal_outputs[index], index)
    torn = [list(answers.values()) for answers in same.values() if len(answers) > 1]
    if torn:
        first, second = torn[0][:2]
        message = (
            f"{len(torn)} input(s) have different ideal outputs: {rows.shown(first)} is answered "
            f"{quoted(rows.outputs[first])} and {quoted(rows.outputs[second])}"
        )
        found = tuple(rows.found(i, f"answered {quoted(rows.outputs[i])}") for group in torn for i in group)
        fix = "decide which is right; the model learns a mixture of both"
        yield Finding("contradictory_outputs", "warning", message, found, fix, {"inputs": len(torn)})


RULES = (
    Rule(
        "contradictory_outputs",
        "Different outputs for the same input",
        "warning",
        "the same input has different ideal outputs",
        "The model can't tell when to say which, and learns a mixture of both.",
        "decide which is right",
        Sample([pair("Is the blue mug back?", "Yes."), pair("is the blue mug back?", "Not before May.")]),
        _contradictions,
    ),
)
