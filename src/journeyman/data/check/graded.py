"""Rules about the task's own graders: they can be used, and the ideal outputs pass them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from journeyman.data.check.finding import Finding
from journeyman.data.check.rule import Rows, Rule, Sample, pair
from journeyman.data.refused import quoted
from journeyman.errors import GraderError
from journeyman.grade import score
from journeyman.grade.parse import parse


def _unusable(rows: Rows) -> Iterator[Finding]:
    try:
        parse(rows.graders)
    except GraderError as error:
        message = f"{error.message}: {'; '.join(error.problems)}"
        yield Finding("unusable_grader", "warning", message, (), "correct it in task.toml; until then nothing can be evaluated")


def _ideal_fails(rows: Rows) -> Iterator[Finding]:
    try:
        graders = parse(rows.graders)
    except GraderError:  # said by `unusable_grader`
        return
    failed: dict[int, list[str]] = {}
    for index, example in enumerate(rows.all if graders else ()):
        sample = score.Sample(example.ideal.content, example.ideal.tool_calls)
        item = score.item_of(example)
        names = [grader.name for grader in graders if grader.grade(sample, item).passed is False]
        if names:
            failed[index] = names
    if not failed:
        return
    counts = Counter(name for names in failed.values() for name in names)
    named = ", ".join(f"{quoted(name)} ({n})" for name, n in counts.most_common(3))
    first = min(failed, key=lambda index: (-len(failed[index]), index))
    yield Finding(
        "ideal_fails_grader",
        "warning",
        f"{len(failed)} of {len(rows.all)} ideal outputs fail the task's own graders: {named}; the first is {rows.shown(first)}",
        tuple(rows.found(i, "fails " + ", ".join(names)) for i, names in sorted(failed.items(), key=lambda one: -len(one[1]))),
        "mend the outputs, or the grader where it asks for too much",
        {"rows": len(failed), "of": len(rows.all), "graders": dict(counts)},
    )


_NO_MONEY = {"type": "regex", "name": "no promise of money", "pattern": "refund|voucher", "flags": "i", "operation": "no_match"}

RULES = (
    Rule(
        "unusable_grader",
        "A grader that can't be used",
        "warning",
        "a grader in task.toml is not understood, or needs what is not here yet",
        "It would be noticed after the training, when the model is to be measured.",
        "correct it in task.toml; the finding names the field",
        Sample([pair("Where is my mug?", "We look for it.")], graders=[{**_NO_MONEY, "operation": "nomatch"}]),
        _unusable,
    ),
    Rule(
        "ideal_fails_grader",
        "Ideal outputs that fail their own grader",
        "warning",
        "an ideal output does not pass the graders of its task",
        "The graders say what the instructions ask for. The model is taught to break them, and then marked down for it.",
        "mend the outputs, or the grader where it asks for too much",
        Sample(
            [pair("My mug has a chip.", "Ada will look at a photo of it."), pair("My lamp is dark.", "You get a full refund.")],
            graders=[_NO_MONEY],
        ),
        _ideal_fails,
    ),
)
