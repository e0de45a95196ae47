"""How far a judge model agrees with a person: the same answers, marked by both.

A judge's score is worth what this number is worth, so it stands beside every score of a judge; and where nobody has
marked any row, the report says just that.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from journeyman.errors import DataError
from journeyman.evaluate.statistics import Missing, Proportion, proportion
from journeyman.grade.score import Grader, Item, Sample
from journeyman.records import Place

JUDGES = ("label_model", "score_model")


@dataclass(frozen=True, slots=True)
class Marked:
    """An answer that a person has marked: for every judge alike, or grader by grader."""

    place: Place
    sample: Sample
    item: Item
    passed: bool | Mapping[str, bool]

    def by(self, grader: str) -> bool | None:
        """The person's word on what this grader judges; None where there is none."""
        return self.passed if isinstance(self.passed, bool) else self.passed.get(grader)


@dataclass(frozen=True, slots=True)
class Agreement:
    """One judge against the person: rows on which both say the same, and the two ways to differ.

    `kappa` is Cohen's (1960, "A coefficient of agreement for nominal scales"): agreement beyond what chance gives to
    two that pass so many rows, (p_o - p_e) / (1 - p_e). `unmeasured` rows had no verdict of the judge.
    """

    grader: str
    agreed: Proportion | Missing
    kappa: float | Missing
    too_kind: int
    too_strict: int
    unmeasured: int

    @property
    def sentence(self) -> str:
        """The agreement in words."""
        if isinstance(self.agreed, Missing):
            return f"{self.grader}: agreement with people is not measured (mark some answers: files.marked in task.toml)"
        kappa = "" if isinstance(self.kappa, Missing) else f", kappa {self.kappa:.2f}"
        low, high = self.agreed.interval.low, self.agreed.interval.high
        return (
            f"{self.grader}: agrees with a person on {self.agreed.count} of {self.agreed.total} marked answers "
            f"({self.agreed.share:.0%}, {low:.0%} to {high:.0%}{kappa}); passes {self.too_kind} that the person fails, fails "
            f"{self.too_strict} that the person passes"
        )


def agreement(graders: Sequence[Grader], marked: Sequence[Marked]) -> tuple[Agreement, ...]:
    """Every judge among the graders on the marked answers; a judge without a threshold has no verdict to compare."""
    return tuple(_agreement(grader, marked) for grader in graders if grader.type in JUDGES)


def _agreement(grader: Grader, marked: Sequence[Marked]) -> Agreement:
    pairs, unmeasured = [], 0
    for one in marked:
        person = one.by(grader.name)
        if person is None:
            continue
        judge = grader.grade(one.sample, one.item).passed
        if judge is None:
            unmeasured += 1
        else:
            pairs.append((person, judge))
    agreed = sum(person == judge for person, judge in pairs)
    return Agreement(
        grader=grader.name,
        agreed=proportion(agreed, len(pairs)),
        kappa=_kappa(pairs),
        too_kind=sum(judge and not person for person, judge in pairs),
        too_strict=sum(person and not judge for person, judge in pairs),
        unmeasured=unmeasured,
    )


def _kappa(pairs: Sequence[tuple[bool, bool]]) -> float | Missing:
    if not pairs:
        return Missing.NO_DATA
    rows = len(pairs)
    observed = sum(a == b for a, b in pairs) / rows
    person, judge = (sum(pair[i] for pair in pairs) / rows for i in (0, 1))
    chance = person * judge + (1 - person) * (1 - judge)
    return Missing.NO_SPREAD if chance == 1 else (observed - chance) / (1 - chance)


def read_marked(path: Path) -> list[Marked]:
    """Marked answers from JSON lines: rows of scores.jsonl with `passed` beside them.

    `output` and `passed` (true, false, or an object of these by grader name) are needed; all other keys are what
    graders may name as `{{ item.KEY }}`. Raises DataError that lists every row that can't be used.
    """
    marked, problems = [], []
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # splitlines would also cut at U+2028, which JSON may hold
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"it can't be read: {error}", where=str(path), fix="save it as UTF-8", code="invalid_mark") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        place = Place(path.name, number)
        try:
            marked.append(_read(line, place))
        except ValueError as error:
            problems.append(f"{place}: {error}")
    if problems:
        raise DataError(
            f"{len(problems)} marked row(s) can't be used",
            where=str(path),
            fix='give "output" as a text, and "passed" as true or false',
            code="invalid_mark",
            problems=problems,
        )
    return marked


def _read(line: str, place: Place) -> Marked:
    row: Any = json.loads(line)
    if not isinstance(row, dict) or not isinstance(row.get("output"), str):
        raise ValueError("it has no output as a text")
    passed: Any = row.get("passed")
    by_grader = isinstance(passed, dict) and passed and all(isinstance(v, bool) for v in passed.values())
    if not isinstance(passed, bool) and not by_grader:
        raise ValueError(f"passed is {passed!r}")
    item = {key: value for key, value in row.items() if key not in ("output", "passed")}
    return Marked(place, Sample(row["output"]), item, passed)
