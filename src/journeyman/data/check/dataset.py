"""What is suspicious about a dataset as a whole: repeated rows, contradictions, leakage, too few rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from journeyman.data.refused import Refused, quoted
from journeyman.data.similar import input_text, near_groups, normalised
from journeyman.records import Example, Place

Severity = Literal["error", "warning", "info"]
Verdict = Literal["ok", "warnings", "errors"]

MIN_EXAMPLES = 10
"""OpenAI refuses a training file with fewer."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about the dataset that its owner should know, with the rows that show it and what to do."""

    code: str
    severity: Severity
    message: str
    rows: tuple[Place, ...]
    fix: str

    def as_dict(self) -> dict[str, object]:
        """The finding as `check --json` and report.json have it."""
        rows = [{"file": place.file, "line": place.line} for place in self.rows]
        return {
            "code": self.code,
            "severity": self.severity,
            "message": self.message,
            "rows": rows,
            "fix": self.fix,
        }


@dataclass(frozen=True, slots=True)
class Report:
    """All findings, worst first, and the verdict that the worst of them decides."""

    verdict: Verdict
    findings: tuple[Finding, ...]

    def as_dict(self) -> dict[str, object]:
        """The report as `check --json` and report.json have it."""
        return {"verdict": self.verdict, "findings": [finding.as_dict() for finding in self.findings]}


class Checked(Protocol):
    """What a check looks at: a Dataset, or anything with the same rows."""

    @property
    def train(self) -> Sequence[Example]:
        """Rows to learn from."""

    @property
    def validation(self) -> Sequence[Example]:
        """Rows that the loss is watched on."""

    @property
    def held_out(self) -> Sequence[Example]:
        """Rows that no model sees before it is evaluated."""

    @property
    def refused(self) -> Sequence[Refused]:
        """Rows that were not kept."""

    @property
    def training_file_rows(self) -> int:
        """The kept rows of the training file, those split off from it included."""


@dataclass(frozen=True, slots=True)
class Rows:
    """The kept rows of every split, and the near-duplicate group of each row of `all`."""

    train: Sequence[Example]
    validation: Sequence[Example]
    held_out: Sequence[Example]
    refused: Sequence[Refused]
    training_file_rows: int
    groups: Sequence[int]

    @property
    def all(self) -> list[Example]:
        """Every kept row: training, validation, held-out."""
        return [*self.train, *self.validation, *self.held_out]


def check(dataset: Checked) -> Report:
    """Look at a whole dataset. The findings are the same for the same rows, whatever else is on the machine."""
    kept = [*dataset.train, *dataset.validation, *dataset.held_out]
    groups = near_groups([input_text(example) for example in kept])
    rows = Rows(
        dataset.train,
        dataset.validation,
        dataset.held_out,
        dataset.refused,
        dataset.training_file_rows,
        groups,
    )
    found = [finding for look in CHECKS for finding in look(rows)]
    order = {"error": 0, "warning": 1, "info": 2}
    found.sort(key=lambda finding: order[finding.severity])
    worst = found[0].severity if found else "info"
    verdicts: dict[Severity, Verdict] = {"error": "errors", "warning": "warnings", "info": "ok"}
    return Report(verdicts[worst], tuple(found))


def report_from_dict(value: Mapping[str, Any]) -> Report:
    """Read back a report that `Report.as_dict` wrote (trusted input: our own files)."""
    findings = []
    for row in value["findings"]:
        places = tuple(Place(place["file"], place["line"]) for place in row["rows"])
        findings.append(Finding(row["code"], row["severity"], row["message"], places, row["fix"]))
    return Report(value["verdict"], tuple(findings))


def _too_few(rows: Rows) -> Iterator[Finding]:
    count = rows.training_file_rows
    if count < MIN_EXAMPLES:
        yield Finding(
            "invalid_n_examples",
            "error",
            f"Training file has {count} example(s), but must have at least {MIN_EXAMPLES} examples",
            (),
            "add examples; from about 50 good ones on, a change is usually seen",
        )


def _refused(rows: Rows) -> Iterator[Finding]:
    by_code: dict[str, list[Refused]] = defaultdict(list)
    for refusal in rows.refused:
        by_code[refusal.code].append(refusal)
    for code, refusals in by_code.items():
        message = f"{len(refusals)} row(s) refused ({code}): {refusals[0].reason}"
        yield Finding("refused_rows", "warning", message, tuple(r.place for r in refusals), refusals[0].fix)


def _duplicates(rows: Rows) -> Iterator[Finding]:
    """Rows of one split that repeat another word for word, input and ideal output."""
    same: dict[tuple[object, ...], list[Example]] = defaultdict(list)
    for name, examples in (
        ("train", rows.train),
        ("validation", rows.validation),
        ("held_out", rows.held_out),
    ):
        for example in examples:
            same[(name, *_conversation(example))].append(example)
    repeated = [examples for examples in same.values() if len(examples) > 1]
    if repeated:
        extra = sum(len(examples) - 1 for examples in repeated)
        message = f"{extra} row(s) repeat another word for word; the first is {_shown(repeated[0][0])}"
        yield Finding("duplicate_rows", "warning", message, _places(repeated), "keep one of each")


def _contradictions(rows: Rows) -> Iterator[Finding]:
    """The same input with different ideal outputs."""
    same: dict[tuple[object, ...], dict[tuple[object, ...], Example]] = defaultdict(dict)
    for example in rows.all:
        asked = tuple((m.role, normalised(m.content)) for m in example.prompt)
        same[asked].setdefault(_output(example), example)
    torn = [list(answers.values()) for answers in same.values() if len(answers) > 1]
    if torn:
        first, second = torn[0][0], torn[0][1]
        message = (
            f"{len(torn)} input(s) have different ideal outputs: {_shown(first)} is answered "
            f"{quoted(first.ideal.content)} and {quoted(second.ideal.content)}"
        )
        yield Finding(
            "contradictory_outputs",
            "warning",
            message,
            _places(torn),
            "decide which is right; the model learns a mixture of both",
        )


def _near_duplicates(rows: Rows) -> Iterator[Finding]:
    """Inputs of the training rows that say nearly the same (word for word the same is for `duplicate_rows`)."""
    near: dict[int, dict[str, Example]] = defaultdict(dict)
    for example, group in zip(rows.train, rows.groups, strict=False):
        near[group].setdefault(normalised(input_text(example)), example)
    found = [list(examples.values()) for examples in near.values() if len(examples) > 1]
    if found:
        count = sum(len(examples) for examples in found)
        message = f"{count} inputs in {len(found)} group(s) are nearly the same, such as {_shown(found[0][0])} and {_shown(found[0][1])}"
        yield Finding(
            "near_duplicate_inputs",
            "info",
            message,
            _places(found),
            "harmless in small numbers: a group is kept in one split; many of them add little",
        )


def _leakage(rows: Rows) -> Iterator[Finding]:
    """Training rows whose input is nearly one of validation or held-out: scores on those would flatter the model."""
    trained = dict(zip(reversed(rows.groups[: len(rows.train)]), reversed(rows.train), strict=True))
    start = len(rows.train)
    for name, examples in (("validation", rows.validation), ("held-out", rows.held_out)):
        groups = rows.groups[start : start + len(examples)]
        start += len(examples)
        leaks = [
            (trained[group], example)
            for example, group in zip(examples, groups, strict=True)
            if group in trained
        ]
        if leaks:
            ours, theirs = leaks[0]
            message = f"{len(leaks)} of {len(examples)} {name} row(s) have an input that is also trained on, such as {_shown(theirs)} and {_shown(ours)}"
            yield Finding(
                "leakage",
                "warning",
                message,
                _places([list(pair) for pair in leaks]),
                f"remove them from the training file or from the {name} file",
            )


CHECKS = (_too_few, _refused, _duplicates, _contradictions, _leakage, _near_duplicates)
"""Each looks at the rows once and yields what it finds. Changing facts and personal data will stand here too."""


def _conversation(example: Example) -> tuple[object, ...]:
    return tuple((m.role, m.content, repr(m.tool_calls)) for m in example.messages)


def _output(example: Example) -> tuple[object, ...]:
    return (normalised(example.ideal.content), repr(example.ideal.tool_calls))


def _places(groups: Iterable[Sequence[Example]]) -> tuple[Place, ...]:
    return tuple(dict.fromkeys(example.place for examples in groups for example in examples))


def _shown(example: Example) -> str:
    return f"{example.place} {quoted(input_text(example))}"
