"""The evaluation as one HTML page for the people who decide: no network, readable on a phone, in print, and in the dark.

What is better or worse is said by shape and word, never by colour alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from journeyman.data.html import script_json, template
from journeyman.evaluate import course
from journeyman.evaluate.labels import LabelReport
from journeyman.evaluate.markdown import MISSING
from journeyman.evaluate.measures import SIMILARITY
from journeyman.evaluate.plot import loss_curve
from journeyman.evaluate.report import Evaluation
from journeyman.evaluate.run import ScoredRow
from journeyman.evaluate.statistics import LEVEL, Interval, Mean, Missing, Proportion
from journeyman.evaluate.verdict import Verdict

MAX_ROWS = 3_000
"""So many rows can be searched in the page, those that changed first; the page says so where there are more."""

MAX_CHARACTERS = 4_000
MAX_FLIPS = 60
MAX_LABELS = 24
"""Of more labels the page shows the pairs that are most often confused instead of the whole matrix."""

SHAPES = {
    "better": "▲ better",
    "worse": "▼ worse",
    "no_difference_seen": "● no difference seen",
    "not_enough_rows": "○ too few to tell",
    "at_chance": "◇ base at chance",
}
"""Each verdict as shape and word."""

HEADLINES = {
    "better": "It got better at the task",
    "worse": "It got worse at the task",
    "no_difference_seen": "No difference was seen on the task",
    "not_enough_rows": "Too few rows to tell",
}


@dataclass(frozen=True, slots=True)
class Subject:
    """What was evaluated, for the page and the model card.

    `plan` is (name, value, reason); `check` the data check's report as report.json has it; `validations` and
    `overfitting` the course of the training; `compare` what `compare --json` gives (contenders and advice), where it
    was run; `reproduce` the commands.
    """

    model: str
    base: str
    task: str
    created: str
    trained_rows: int
    method: str
    dataset_hash: str
    base_fingerprint: str
    plan: Sequence[tuple[str, str, str]] = ()
    check: Mapping[str, Any] | None = None
    validations: Sequence[Mapping[str, Any]] = ()
    overfitting: str | None = None
    compare: Mapping[str, Any] | None = None
    reproduce: Sequence[str] = ()
    versions: Mapping[str, str] = field(default_factory=dict)


def page(evaluation: Evaluation, subject: Subject) -> str:
    """The page's HTML."""
    pairs = list(zip(evaluation.before.rows, evaluation.after.rows, strict=True))
    return template(Path(__file__).parent / "page.html").render(
        s=subject,
        headline=HEADLINES[evaluation.verdict.outcome],
        shape=SHAPES[evaluation.verdict.outcome],
        outcome=evaluation.verdict.outcome,
        verdict=evaluation.verdict,
        counts=evaluation.verdict.counts,
        cost=_cost(evaluation),
        graders=_graders(evaluation),
        measures=_measures(evaluation),
        judges=evaluation.judges,
        forest=_forest(evaluation),
        labels=_labels(evaluation.labels),
        forgetting=_forgetting(evaluation),
        consistency=_consistency(evaluation),
        saving=evaluation.saving,
        contenders=_contenders(subject.compare),
        curve=_curve(subject.validations),
        plot=loss_curve(subject.validations),
        course=_course(evaluation.course),
        course_advice=course.advice(evaluation.course),
        rows=script_json(_rows(pairs)),
        all_rows=len(pairs),
        max_rows=MAX_ROWS,
        level=f"{LEVEL:.0%}",
    )


def _cost(evaluation: Evaluation) -> tuple[str, str] | None:
    """What it cost elsewhere: shape with word, and the sentence."""
    lost = evaluation.forgetting
    if lost is None:
        return None
    return ("● within the forgetting budget" if lost.within_budget else "▼ over the forgetting budget", lost.sentence)


def _graders(evaluation: Evaluation) -> list[dict[str, str]]:
    lines = [
        {
            "name": line.name,
            "before": share(line.before),
            "after": share(line.after),
            "mean": f"{_mean(line.mean_before)} → {_mean(line.mean_after)}" if line.graded and isinstance(line.after, Proportion) else "",
            "p": _p(line.p_value),
        }
        for line in evaluation.graders
    ]
    return [
        *lines,
        {
            "name": "all graders",
            "before": share(evaluation.passed_before),
            "after": share(evaluation.passed_after),
            "mean": "",
            "p": _p(evaluation.verdict.p_value),
        },
    ]


def _measures(evaluation: Evaluation) -> list[tuple[str, str, str]]:
    """(what, before, after) of what is measured without graders."""
    found = evaluation.measures
    if found is None:
        return []
    lines = [
        ("exactly the ideal", share(found.exact[0]), share(found.exact[1])),
        (f"likeness to the ideal ({SIMILARITY})", _mean(found.similarity[0]), _mean(found.similarity[1])),
    ]
    if found.loss is not None:
        lines.append(("loss on the ideal, nats a token", _number(found.loss.before), _number(found.loss.after)))
    if found.json is not None:
        lines.append(("valid JSON", share(found.json.valid[0]), share(found.json.valid[1])))
        lines += [(f"right value: {line.key}", share(line.before), share(line.after)) for line in found.json.fields]
    if evaluation.labels is not None:
        before, after = evaluation.labels
        lines.append(("macro F1 of the labels", _number(before.macro_f1), _number(after.macro_f1)))
    return lines


def _forest(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Differences with their intervals, each placed on a track from -100 to +100 points; task first, then skills."""
    verdict = evaluation.verdict
    points: list[tuple[str, str, float | Missing, Interval | Missing, str]] = [
        ("task", "all graders", verdict.difference, verdict.interval, verdict.outcome)]
    if len(evaluation.graders) > 1:
        points += [("task", g.name, g.difference, g.interval, _outcome(g.p_value, g.difference)) for g in evaluation.graders]
    if evaluation.forgetting is not None:
        points += [("elsewhere", s.name, s.difference, s.interval, s.verdict) for s in evaluation.forgetting.skills]
    return [_placed(*point) for point in points if isinstance(point[2], float)]


def _placed(
    group: str, name: str, difference: float | Missing, interval: Interval | Missing, outcome: str
) -> dict[str, Any]:
    value = difference if isinstance(difference, float) else 0.0
    low, high = (value, value) if isinstance(interval, Missing) else (interval.low, interval.high)
    left, right = _percent(low), _percent(high)
    return {
        "group": group,
        "name": name,
        "at": _percent(value),
        "left": left,
        "width": max(0.3, right - left),
        "mark": SHAPES[outcome][0],
        "word": SHAPES[outcome][2:],
        "outcome": outcome,
        "text": f"{100 * value:+.1f}",
        "interval": "" if isinstance(interval, Missing) else f"{100 * low:+.1f} to {100 * high:+.1f}",
    }


def _percent(difference: float) -> float:
    return round(50 + 50 * max(-1.0, min(1.0, difference)), 2)


def _outcome(p_value: float | Missing, difference: float | Missing) -> str:
    if isinstance(p_value, Missing) or isinstance(difference, Missing) or p_value >= 1 - LEVEL or difference == 0:
        return "no_difference_seen"
    return "better" if difference > 0 else "worse"


def _labels(reports: tuple[LabelReport, LabelReport] | None) -> dict[str, Any] | None:
    """The tuned model's confusion: a matrix where the labels are few, and the most confused pairs."""
    if reports is None:
        return None
    before, after = reports
    pairs = sorted(((n, i, a) for (i, a), n in after.confusion.items() if i != a), reverse=True)
    names = after.labels if len(after.labels) <= MAX_LABELS else ()
    matrix = [
        {
            "label": ideal,
            "cells": [after.confusion.get((ideal, answered), 0) for answered in names],
            "outside": after.outside.get(ideal, 0),
        }
        for ideal in names
    ]
    f1 = [(c.label, str(c.support), _number(o.f1), _number(c.f1)) for o, c in zip(before.classes, after.classes, strict=True)]
    return {"names": names, "matrix": matrix, "pairs": pairs[:10], "f1": f1}


def _forgetting(evaluation: Evaluation) -> dict[str, Any] | None:
    lost = evaluation.forgetting
    if lost is None:
        return None
    skills = [
        {
            "name": s.name,
            "items": s.items,
            "base": _percentage(s.base),
            "tuned": _percentage(s.tuned),
            "difference": f"{100 * s.difference:+.1f}" if isinstance(s.difference, float) else "no data",
            "interval": f"{100 * s.interval.low:+.1f} to {100 * s.interval.high:+.1f}" if isinstance(s.interval, Interval) else "",
            "verdict": SHAPES[s.verdict],
            "outcome": s.verdict,
        }
        for s in lost.skills
    ]
    return {"it": lost, "skills": skills, "flips": lost.flips[:MAX_FLIPS], "more": max(0, len(lost.flips) - MAX_FLIPS)}


def _consistency(evaluation: Evaluation) -> dict[str, Any] | None:
    found = evaluation.consistency
    if found is None:
        return None
    before = {line.kind: line.changed for line in found.before.kinds}
    kinds = [(line.kind, share(before.get(line.kind, Missing.NO_DATA)), share(line.changed)) for line in found.after.kinds]
    lines = [
        ("the same verdict every time", share(found.before.steady), share(found.after.steady)),
        ("passes every time", share(found.before.reliable), share(found.after.reliable)),
    ]
    points = [("steady", _points(found.steady)), ("passing every time", _points(found.reliable))]
    return {"it": found, "lines": lines, "kinds": kinds, "points": points}


def _points(verdict: Verdict) -> str:
    if isinstance(verdict.difference, Missing) or isinstance(verdict.interval, Missing):
        return "no data"
    low, high = 100 * verdict.interval.low, 100 * verdict.interval.high
    return f"{100 * verdict.difference:+.1f} ({low:+.1f} to {high:+.1f}, {SHAPES[verdict.outcome][2:]})"


def _contenders(compare: Mapping[str, Any] | None) -> list[dict[str, str]]:
    """The rows of `compare --json`, as far as they have what the table shows."""
    if compare is None:
        return []
    return [
        {
            "name": str(c["name"]),
            "score": f"{c['score']:.1%}" if isinstance(c.get("score"), (int, float)) else "no data",
            "interval": f"{c['interval'][0]:.1%} to {c['interval'][1]:.1%}" if isinstance(c.get("interval"), (list, tuple)) else "",
            "tokens": f"{c['tokens_per_request']:,.0f}" if isinstance(c.get("tokens_per_request"), (int, float)) else "",
        }
        for c in compare.get("contenders", ())
    ]


def _curve(validations: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    return [
        {
            "step": f"{v['step']:,}",
            "train": _number(v["train_loss"]) if v["train_loss"] is not None else "no data",
            "valid": _number(v["valid_loss"]),
            "score": f"{v['score']:.1%}" if "score" in v else "",
            "prose": f"{v['general_prose']:.1%}" if "general_prose" in v else "",
        }
        for v in validations
    ]


def _course(found: Sequence[course.CheckpointScore]) -> list[tuple[str, ...]]:
    return [
        (
            f"{c.step:,}", share(c.passed), f"{c.prose_loss:+.3f} nats a token", ", ".join(c.lost) or "nothing",
            "the model" if c.published else "",
        )
        for c in found
    ]  # fmt: skip


def _rows(pairs: Sequence[tuple[ScoredRow, ScoredRow]]) -> list[list[Any]]:
    """Rows to search, those that changed first: place, outcome, input, ideal, before and after with their grades."""
    rows = [
        [str(a.place), _change(b, a), _short(a.input), _short(a.ideal), _said(b), _grade(b), _said(a), _grade(a)]
        for b, a in pairs
    ]
    order = {"lost": 0, "gained": 1, "neither": 2, "both": 3, "not measured": 4}
    return sorted(rows, key=lambda row: order[row[1]])[:MAX_ROWS]


def _change(before: ScoredRow, after: ScoredRow) -> str:
    if before.graded.passed is None or after.graded.passed is None:
        return "not measured"
    if before.graded.passed == after.graded.passed:
        return "both" if after.graded.passed else "neither"
    return "gained" if after.graded.passed else "lost"


def _grade(row: ScoredRow) -> str:
    if row.graded.passed is None:
        return "○ not measured"
    failed = [score.name for score in row.graded.scores if score.passed is False]
    return "✓ passes" if row.graded.passed else "✕ fails " + ", ".join(failed)


def _said(row: ScoredRow) -> str:
    return f"(not answered: {row.error})" if row.output is None else _short(row.output)


def _short(text: str) -> str:
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}… ({len(text):,} characters)"


def share(value: Proportion | Mean | Missing) -> str:
    """85.0% (102/120), or 0.850 (mean of 120)."""
    if isinstance(value, Missing):
        return MISSING[value]
    if isinstance(value, Mean):
        return f"{value.value:.3f} (mean of {value.total})"
    return f"{value.share:.1%} ({value.count}/{value.total})"


def _percentage(value: float | Missing) -> str:
    return MISSING[value] if isinstance(value, Missing) else f"{value:.1%}"


def _mean(value: Mean | Missing) -> str:
    return MISSING[value] if isinstance(value, Missing) else f"{value.value:.3f}"


def _number(value: float | Missing) -> str:
    return MISSING[value] if isinstance(value, Missing) else f"{value:.3f}"


def _p(value: float | Missing) -> str:
    if isinstance(value, Missing):
        return MISSING[value]
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
