"""Rules about rows that repeat others, word for word or nearly."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from journeyman.data.check.finding import Drop, Finding
from journeyman.data.check.rule import Rows, Rule, Sample, pair
from journeyman.data.refused import quoted
from journeyman.data.similar import all_but_one, normalised

BOILERPLATE_ROWS = 5
BOILERPLATE_SHARE = 0.02
"""An output that so many training rows, and so large a share of them, have nearly word for word is boilerplate."""

BOILERPLATE_MUCH = 0.2
"""From this share on the model will give the boilerplate where it should not."""

FEW_EFFECTIVE, MOST_EFFECTIVE = 0.5, 0.9
"""With less than the first share of different rows, a dataset is much smaller than it looks; below the second it is said for information."""


def _repeats(rows: Rows) -> dict[int, int]:
    """For each row that repeats an earlier one of its split, but for case and white space: that row."""
    first: dict[tuple[object, ...], int] = {}
    out = {}
    for index, example in enumerate(rows.all):
        said = tuple((m.role, normalised(m.content), repr(m.tool_calls)) for m in example.messages)
        known = first.setdefault((rows.splits[index], *said), index)
        if known != index:
            out[index] = known
    return out


def _duplicates(rows: Rows) -> Iterator[Finding]:
    repeats = rows.once(_repeats)
    if repeats:
        index, known = next(iter(repeats.items()))
        found = tuple(rows.found(i, f"repeats {rows.all[of].place}", Drop()) for i, of in repeats.items())
        message = f"{len(repeats)} row(s) repeat another word for word: {rows.shown(index)} is {rows.all[known].place}"
        yield Finding("duplicate_rows", "warning", message, found, "keep one of each", {"rows": len(repeats)})


def _near_rows(rows: Rows) -> Iterator[Finding]:
    """Rows of one split whose inputs are nearly the same, and whose outputs are too."""
    near: dict[tuple[object, ...], list[int]] = defaultdict(list)
    repeats = rows.once(_repeats)
    for index in range(len(rows.all)):
        if index not in repeats:
            near[rows.splits[index], rows.input_groups[index], rows.output_groups[index]].append(index)
    groups = [group for group in near.values() if len(group) > 1]
    same = rows.input_similarity.same
    found = []
    for first, *others in groups:
        for index in others:
            alike = same[index] == same[first] and rows.normal_outputs[index] == rows.normal_outputs[first]
            found.append(rows.found(index, f"nearly {rows.all[first].place}", Drop() if alike else None))
    named = {index for group in groups for index in group[1:]} | repeats.keys()
    but_for_a_word = {index: known for index, known in _but_for_a_word(rows).items() if index not in named}
    found += [rows.found(index, f"nearly {rows.all[known].place}, but for a word") for index, known in but_for_a_word.items()]
    if found:
        one, other = groups[0][:2] if groups else next(iter(but_for_a_word.items()))
        message = f"{len(found)} row(s) say nearly what another does, such as {rows.shown(one)} and {rows.shown(other)}"
        fix = "harmless in small numbers; keep the best one of each group where they are many"
        yield Finding("near_duplicate_rows", "info", message, tuple(found), fix, {"rows": len(found)})


def _but_for_a_word(rows: Rows) -> dict[int, int]:
    """For each row whose short input has all words but one of an earlier row's, and the same output: that row."""
    first: dict[tuple[object, ...], int] = {}
    out: dict[int, int] = {}
    for index, words in enumerate(rows.short_inputs):
        for kept in all_but_one(words):
            known = first.setdefault((rows.splits[index], rows.systems[index], rows.normal_outputs[index], kept), index)
            if known != index:
                out.setdefault(index, known)
    return out


def _near_inputs(rows: Rows) -> Iterator[Finding]:
    """Training rows whose inputs say nearly the same, and whose outputs do not."""
    near: dict[int, dict[int, int]] = defaultdict(dict)
    for index in range(len(rows.train)):
        near[rows.input_groups[index]].setdefault(rows.output_groups[index], index)
    groups = [list(different.values()) for different in near.values() if len(different) > 1]
    if groups:
        count = sum(map(len, groups))
        message = (
            f"{count} inputs in {len(groups)} group(s) are nearly the same and have different outputs, such as "
            f"{rows.shown(groups[0][0])} and {rows.shown(groups[0][1])}"
        )
        found = tuple(
            rows.found(i, f"nearly {rows.all[group[0] if i != group[0] else group[1]].place}")
            for group in groups
            for i in group
        )
        fix = "make sure that what differs in the inputs is what differs in the outputs"
        yield Finding("near_duplicate_inputs", "info", message, found, fix, {"rows": count, "groups": len(groups)})


def _boilerplate(rows: Rows) -> Iterator[Finding]:
    """Outputs that many different inputs have in common, where outputs are not labels."""
    if rows.labels is not None:
        return
    inputs: dict[int, dict[int, int]] = defaultdict(dict)
    for index in range(len(rows.train)):
        inputs[rows.output_groups[index]].setdefault(rows.input_groups[index], index)
    least = max(BOILERPLATE_ROWS, BOILERPLATE_SHARE * len(rows.train))
    for group, members in sorted(inputs.items(), key=lambda item: (-len(item[1]), item[0])):
        if len(members) < least:
            break
        share = len(members) / len(rows.train)
        found = tuple(rows.found(index) for index in members.values())
        message = f"{len(found)} different inputs ({share:.0%}) have nearly the same output: {quoted(rows.outputs[group])}"
        yield Finding(
            "boilerplate_outputs",
            "warning" if share >= BOILERPLATE_MUCH else "info",
            message,
            found,
            "keep as many as the model should give; a boilerplate that fits every question is learned first",
            {"rows": len(found), "share": round(share, 4)},
        )


def _effective(rows: Rows) -> Iterator[Finding]:
    """How many different things the training rows teach."""
    if not rows.train:
        return
    different = Counter(zip(rows.input_groups[: len(rows.train)], rows.output_groups, strict=False))
    share = len(different) / len(rows.train)
    if share < MOST_EFFECTIVE:
        message = f"{len(rows.train)} training rows teach {len(different)} different things ({share:.0%})"
        numbers = {"rows": len(rows.train), "different": len(different), "share": round(share, 4)}
        fix = "count on the smaller number: add rows that differ, rather than more of the same"
        yield Finding("few_effective_examples", "warning" if share < FEW_EFFECTIVE else "info", message, (), fix, numbers)


RULES = (
    Rule(
        "duplicate_rows",
        "Repeated rows",
        "warning",
        "rows of one split repeat another word for word, input and ideal output (case and white space aside)",
        "A row that stands there five times is learned five times: the model leans towards it.",
        "keep one of each",
        Sample([pair("Is the blue mug back?", "Yes, since Monday.")] * 2),
        _duplicates,
    ),
    Rule(
        "few_effective_examples",
        "Fewer examples than rows",
        "warning",
        "less than half of the training rows differ from the others in what they teach; for information below nine in ten",
        "A dataset of copies is as small as its originals, and is learned by heart in the first epoch.",
        "add rows that differ, rather than more of the same",
        Sample([pair("Do you ship to Riga this week?", "We do, within four days.")] * 3),
        _effective,
    ),
    Rule(
        "boilerplate_outputs",
        "One output for many inputs",
        "warning",
        "at least 5 inputs and 2% of them have nearly the same output, which is not a label",
        "The model learns first what fits everywhere, and gives it where a real answer was wanted.",
        "keep as many as the model should give",
        Sample(
            [
                pair(f"{said} is broken, what now?", "We are sorry to hear that. Please write to our service team.")
                for said in ("The blue mug", "My reading lamp", "A chair leg", "The tea strainer", "One shelf")
            ]
        ),
        _boilerplate,
    ),
    Rule(
        "near_duplicate_rows",
        "Rows that are nearly the same",
        "info",
        "rows of one split whose inputs are nearly the same, and whose outputs are too",
        "They count as many rows and teach like one.",
        "harmless in small numbers; keep the best one of each group where they are many",
        Sample(
            [
                pair("How do I reset the password of my account", "Use the link on the sign-in page."),
                pair("Hi, how do I reset the password of my account please", "Use the link on the sign-in page."),
            ]
        ),
        _near_rows,
    ),
    Rule(
        "near_duplicate_inputs",
        "Nearly the same input, another output",
        "info",
        "training inputs that say nearly the same and have different outputs",
        "Either what differs matters, and the model has to learn that little difference, or the outputs contradict.",
        "make sure that what differs in the inputs is what differs in the outputs",
        Sample(
            [
                pair("How do I reset the password of my account", "Use the link on the sign-in page."),
                pair("How do I reset the password of my account now", "Write to us; we reset it by hand."),
            ]
        ),
        _near_inputs,
    ),
)
