"""The evaluation of a model against its base, as numbers; markdown.py writes it for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from journeyman.evaluate.agreement import Agreement
from journeyman.evaluate.consistency import Consistency
from journeyman.evaluate.course import CheckpointScore
from journeyman.evaluate.forgetting import Forgetting
from journeyman.evaluate.judgement import Judgement, is_pass_or_fail, judged
from journeyman.evaluate.labels import LabelReport, find_labels, label_report
from journeyman.evaluate.measures import Measures
from journeyman.evaluate.run import Scores
from journeyman.evaluate.statistics import (
    Interval,
    Mean,
    Missing,
    Proportion,
    bootstrap_mean,
    holm,
    proportion,
)
from journeyman.evaluate.verdict import Verdict, check_same_rows, compare
from journeyman.grade.score import Score


@dataclass(frozen=True, slots=True)
class GraderLine:
    """One grader before and after: rows that passed, mean value, and the p-value corrected for the number of graders.

    `graded` is true where values between 0 and 1 occur, so that the mean says more than the share that passed, and where there
    are values without verdicts; of these the difference is that of the means.
    """

    name: str
    graded: bool
    passed_before: Proportion | Missing
    passed_after: Proportion | Missing
    mean_before: Mean | Missing
    mean_after: Mean | Missing
    p_value: float | Missing
    difference: float | Missing
    interval: Interval | Missing

    @property
    def before(self) -> Proportion | Mean | Missing:
        """The share that passed; the mean value where there was no verdict."""
        return self.mean_before if isinstance(self.passed_before, Missing) else self.passed_before

    @property
    def after(self) -> Proportion | Mean | Missing:
        """See `before`."""
        return self.mean_after if isinstance(self.passed_after, Missing) else self.passed_after


@dataclass(frozen=True, slots=True)
class Saving:
    """Prompt tokens of a request, now that the instructions live in the model: with them before each, and without.

    `price` is money for a million input tokens, where the user gave one.
    """

    with_instructions: float
    bare: float
    price: float | None = None

    @property
    def tokens(self) -> float:
        """Tokens saved by 1,000 requests."""
        return 1000 * (self.with_instructions - self.bare)

    @property
    def money(self) -> float | None:
        """Money saved by 1,000 requests; None where there is no price."""
        return None if self.price is None else self.tokens * self.price / 1_000_000


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a model gained on held-out rows, and beside it, where measured (None: not), what that cost or saved."""

    before: Scores
    after: Scores
    passed_before: Proportion | Missing
    passed_after: Proportion | Missing
    verdict: Verdict
    graders: tuple[GraderLine, ...]
    labels: tuple[LabelReport, LabelReport] | None
    forgetting: Forgetting | None = None
    measures: Measures | None = None
    consistency: Consistency | None = None
    saving: Saving | None = None
    course: tuple[CheckpointScore, ...] = ()
    judges: tuple[Agreement, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The evaluation as JSON, part by part; a missing number is {"missing": why}."""
        return {
            "task": self._task(),
            "forgetting": None if self.forgetting is None else self.forgetting.as_dict(),
            "measures": as_json(self.measures),
            "consistency": as_json(self.consistency),
            "judges": [{**as_json(one), "sentence": one.sentence} for one in self.judges],
            "checkpoints": [_checkpoint_json(one) for one in self.course],
            "saving": None if self.saving is None else {**as_json(self.saving), "tokens_per_1000_requests": self.saving.tokens, "money_per_1000_requests": self.saving.money},
        }

    def _task(self) -> dict[str, Any]:
        return {
            "before": self.before.name,
            "after": self.after.name,
            "rows": len(self.after.rows),
            "passed": {"before": as_json(self.passed_before), "after": as_json(self.passed_after)},
            "verdict": as_json(self.verdict),
            "graders": [as_json(line) for line in self.graders],
            "labels": None if self.labels is None else [_labels_json(report) for report in self.labels],
            "tokens_per_request": {
                "before": as_json(_tokens(self.before)),
                "after": as_json(_tokens(self.after)),
            },
        }


def evaluate_pair(before: Scores, after: Scores) -> Evaluation:
    """Put two answerers' scores side by side. Raises DataError where they are not of the same rows."""
    check_same_rows(before, after)
    labels = find_labels([row.ideal for row in after.rows])
    return Evaluation(
        before=before,
        after=after,
        passed_before=before.passed,
        passed_after=after.passed,
        verdict=compare(before, after),
        graders=_grader_lines(before, after),
        labels=None if labels is None else (label_report(before, labels), label_report(after, labels)),
    )


def as_json(value: Any) -> Any:
    """Records, intervals and missing numbers as JSON values."""
    if isinstance(value, Missing):
        return {"missing": value.value}
    if isinstance(value, Interval):
        return [value.low, value.high]
    if isinstance(value, Proportion):
        return {
            "count": value.count,
            "total": value.total,
            "share": value.share,
            "interval": as_json(value.interval),
        }
    if is_dataclass(value):
        return {field.name: as_json(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, (list, tuple)):
        return [as_json(v) for v in value]
    return value


def _checkpoint_json(one: CheckpointScore) -> dict[str, Any]:
    return {
        "checkpoint": one.name,
        "step": one.step,
        "published": one.published,
        "passed": as_json(one.passed),
        "prose_loss": one.prose_loss,
        "over_budget": list(one.lost),
    }


def _labels_json(report: LabelReport) -> dict[str, Any]:
    """JSON has no pairs as keys: the confusion becomes ideal → answered → rows."""
    table: dict[str, dict[str, int]] = {}
    for (ideal, answered), count in sorted(report.confusion.items()):
        table.setdefault(ideal, {})[answered] = count
    return {
        "labels": list(report.labels),
        "accuracy": as_json(report.accuracy),
        "macro_f1": as_json(report.macro_f1),
        "classes": [as_json(c) for c in report.classes],
        "confusion": table,
        "outside": report.outside,
    }


def _tokens(scores: Scores) -> dict[str, float] | Missing:
    """Mean tokens of a request, read and written."""
    usages = [row.usage for row in scores.rows if row.usage is not None]
    if not usages:
        return Missing.NO_DATA
    return {
        "prompt": sum(u.prompt_tokens for u in usages) / len(usages),
        "completion": sum(u.completion_tokens for u in usages) / len(usages),
    }


def _grader_lines(before: Scores, after: Scores) -> tuple[GraderLine, ...]:
    names = dict.fromkeys(s.name for row in (*before.rows, *after.rows) for s in row.graded.scores)
    columns = [(name, _column(before, name), _column(after, name)) for name in names]
    found = [_judged(old, new) for _, old, new in columns]
    raw = [f.p_value for f in found]
    known = [p for p in raw if not isinstance(p, Missing)]
    corrected = iter(holm(known))
    return tuple(
        GraderLine(
            name=name,
            graded=any(s is not None and s.value is not None and (s.passed is None or s.value not in (0, 1)) for s in (*old, *new)),
            passed_before=_share_passed(old),
            passed_after=_share_passed(new),
            mean_before=_mean(old),
            mean_after=_mean(new),
            p_value=f.p_value if isinstance(f.p_value, Missing) else next(corrected),
            difference=f.difference,
            interval=f.interval,
        )
        for (name, old, new), f in zip(columns, found, strict=True)
    )


def _column(scores: Scores, name: str) -> list[Score | None]:
    """One grader's score for each row; None where the row has none."""
    return [next((s for s in row.graded.scores if s.name == name), None) for row in scores.rows]


def _share_passed(column: Sequence[Score | None]) -> Proportion | Missing:
    verdicts = [s.passed for s in column if s is not None and s.passed is not None]
    return proportion(sum(verdicts), len(verdicts))


def _mean(column: Sequence[Score | None]) -> Mean | Missing:
    return bootstrap_mean([s.value for s in column if s is not None and s.value is not None], resamples=1000, bounds=(0, 1))


def _judged(old: Sequence[Score | None], new: Sequence[Score | None]) -> Judgement:
    """By the verdicts, or by the values where there are none."""
    before, after = ([None if s is None or s.passed is None else float(s.passed) for s in column] for column in (old, new))
    if any(v is not None for v in (*before, *after)):
        return judged(before, after, pass_or_fail=True)
    before, after = ([None if s is None else s.value for s in column] for column in (old, new))
    return judged(before, after, pass_or_fail=is_pass_or_fail([before, after]))
