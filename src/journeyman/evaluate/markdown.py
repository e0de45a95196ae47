"""The evaluation as a text that can be read anywhere: Markdown without HTML."""

from __future__ import annotations

from journeyman.evaluate.consistency import Consistency
from journeyman.evaluate.forgetting import Forgetting
from journeyman.evaluate.labels import LabelReport
from journeyman.evaluate.report import Evaluation, GraderLine
from journeyman.evaluate.run import ScoredRow
from journeyman.evaluate.statistics import Interval, Mean, Missing, Proportion

MISSING = {
    Missing.NO_DATA: "no data",
    Missing.TOO_FEW_ROWS: "too few rows",
    Missing.NO_SPREAD: "all rows equal",
}


def markdown(evaluation: Evaluation, *, title: str, examples: int = 5) -> str:
    """The report: verdict first, then the pass rates, the graders, the labels, and examples side by side."""
    before, after = evaluation.before.name, evaluation.after.name
    blocks = [
        f"# {title}",
        evaluation.verdict.sentence,
        _table(
            ["", before, after],
            [
                [
                    "rows that pass all graders",
                    _share(evaluation.passed_before),
                    _share(evaluation.passed_after),
                ]
            ],
        ),
        "## Graders",
        _table(
            [
                "grader",
                f"passed: {before}",
                f"passed: {after}",
                f"mean: {before}",
                f"mean: {after}",
                "p (Holm)",
            ],
            [_grader(line) for line in evaluation.graders],
        ),
    ]
    if evaluation.judges:
        blocks += ["## Judges", "\n".join(f"- {one.sentence}" for one in evaluation.judges)]
    if evaluation.labels is not None:
        blocks += ["## Labels", _labels(*evaluation.labels, before, after)]
    if evaluation.forgetting is not None:
        blocks += ["## What it forgot", evaluation.forgetting.sentence, _skills(evaluation.forgetting)]
    if evaluation.consistency is not None:
        blocks += ["## Consistency", _consistency(evaluation.consistency)]
    pairs = list(zip(evaluation.before.rows, evaluation.after.rows, strict=True))
    blocks += ["## Side by side", *(_example(b, a, before, after) for b, a in pairs[:examples])]
    blocks.append(
        "Shares carry 95% Wilson intervals, means 95% bootstrap intervals; p-values are exact McNemar."
    )
    return "\n\n".join(blocks) + "\n"


def _grader(line: GraderLine) -> list[str]:
    p = MISSING[line.p_value] if isinstance(line.p_value, Missing) else f"{line.p_value:.3f}"
    shares = [_share(line.passed_before), _share(line.passed_after)]
    means = [_mean(line.mean_before), _mean(line.mean_after)] if line.graded else ["", ""]
    return [line.name, *shares, *means, p]


def _skills(forgetting: Forgetting) -> str:
    lines = [
        [s.name, str(s.items), _number(s.base), _number(s.tuned), _number(s.difference), s.verdict.replace("_", " ")]
        for s in forgetting.skills
    ]
    return _table(["skill", "items", "base", "tuned", "difference", ""], lines)


def _consistency(found: Consistency) -> str:
    before, after = found.before, found.after
    lines = [
        ["the same verdict every time", _share(before.steady), _share(after.steady)],
        ["passes every time", _share(before.reliable), _share(after.reliable)],
        *(
            [f"verdict changes: {b.kind}", _share(b.changed), _share(a.changed)]
            for b, a in zip(before.kinds, after.kinds, strict=False)
        ),
    ]
    return _table([f"of {after.rows} rows, asked again", before.name, after.name], lines)


def _labels(before: LabelReport, after: LabelReport, before_name: str, after_name: str) -> str:
    rows = [
        ["accuracy", "", _share(before.accuracy), _share(after.accuracy)],
        ["macro F1", "", _number(before.macro_f1), _number(after.macro_f1)],
        [
            "answers that are no label",
            "",
            str(sum(before.outside.values())),
            str(sum(after.outside.values())),
        ],
    ]
    for old, new in zip(before.classes, after.classes, strict=True):
        rows.append([f"F1: {old.label}", str(new.support), _number(old.f1), _number(new.f1)])
    return _table(["", "rows", before_name, after_name], rows)


def _example(before: ScoredRow, after: ScoredRow, before_name: str, after_name: str) -> str:
    parts = [f"### {after.place}", f"Input:\n\n{_quote(after.input)}", f"Ideal:\n\n{_quote(after.ideal)}"]
    for name, row in ((before_name, before), (after_name, after)):
        said = f"not answered: {row.error}" if row.output is None else row.output
        parts.append(f"{name} ({_outcome(row)}):\n\n{_quote(said)}")
    return "\n\n".join(parts)


def _outcome(row: ScoredRow) -> str:
    if row.graded.passed is None:
        return "not measured"
    failed = [score.name for score in row.graded.scores if score.passed is False]
    return "passed" if row.graded.passed else "failed: " + ", ".join(failed)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _quote(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in text.split("\n"))


def _share(value: Proportion | Missing) -> str:
    if isinstance(value, Missing):
        return MISSING[value]
    return f"{value.count} of {value.total}, {value.share:.1%} ({_interval(value.interval, percent=True)})"


def _mean(value: Mean | Missing) -> str:
    if isinstance(value, Missing):
        return MISSING[value]
    interval = MISSING[value.interval] if isinstance(value.interval, Missing) else _interval(value.interval)
    return f"{value.value:.3f} ({interval})"


def _number(value: float | Missing) -> str:
    return MISSING[value] if isinstance(value, Missing) else f"{value:.3f}"


def _interval(interval: Interval, *, percent: bool = False) -> str:
    if percent:
        return f"{interval.low:.1%} to {interval.high:.1%}"
    return f"{interval.low:.3f} to {interval.high:.3f}"
