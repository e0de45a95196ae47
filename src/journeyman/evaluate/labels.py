"""Closed label sets: when the ideals are one, and how well the labels are hit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from journeyman.evaluate.run import Scores
from journeyman.evaluate.statistics import Missing, Proportion, proportion

MAX_LABELS = 200
MAX_LABEL_CHARACTERS = 60


@dataclass(frozen=True, slots=True)
class ClassScore:
    """One label: precision and recall are missing where no row was answered so, or none should have been."""

    label: str
    support: int
    precision: float | Missing
    recall: float | Missing
    f1: float | Missing


@dataclass(frozen=True, slots=True)
class LabelReport:
    """How well a closed label set is hit.

    `confusion` counts (ideal, answered) for answers inside the set; `outside` counts, for each ideal, the answers
    that are no label at all. `macro_f1` is the mean F1 of the labels that occur among the ideals.
    """

    labels: tuple[str, ...]
    accuracy: Proportion | Missing
    macro_f1: float | Missing
    classes: tuple[ClassScore, ...]
    confusion: dict[tuple[str, str], int]
    outside: dict[str, int]


def find_labels(ideals: Sequence[str]) -> tuple[str, ...] | None:
    """The labels, sorted, where the ideals are a closed set: few, short, one line each, used twice on average.

    None where they are not. Give the training rows' ideals too, so that rare labels are known.
    """
    labels = {ideal.strip() for ideal in ideals}
    closed = 2 <= len(labels) <= min(MAX_LABELS, len(ideals) / 2)
    short = all(label and len(label) <= MAX_LABEL_CHARACTERS and "\n" not in label for label in labels)
    return tuple(sorted(labels)) if closed and short else None


def label_report(scores: Scores, labels: Sequence[str]) -> LabelReport:
    """Accuracy, F1 for each label, and confusion. Rows that were not answered are left out."""
    pairs = [(row.ideal.strip(), row.output.strip()) for row in scores.rows if row.output is not None]
    confusion = Counter((ideal, answer) for ideal, answer in pairs if answer in labels)
    outside = Counter(ideal for ideal, answer in pairs if answer not in labels)
    classes = tuple(_class_score(label, pairs) for label in labels)
    f1s = [c.f1 for c in classes if c.support and not isinstance(c.f1, Missing)]
    return LabelReport(
        labels=tuple(labels),
        accuracy=proportion(sum(ideal == answer for ideal, answer in pairs), len(pairs)),
        macro_f1=sum(f1s) / len(f1s) if f1s else Missing.NO_DATA,
        classes=classes,
        confusion=dict(confusion),
        outside=dict(outside),
    )


def _class_score(label: str, pairs: Sequence[tuple[str, str]]) -> ClassScore:
    """F1 = 2 TP / (2 TP + FP + FN) (van Rijsbergen 1979, "Information retrieval", chapter 7)."""
    hits = sum(ideal == label == answer for ideal, answer in pairs)
    wanted = sum(ideal == label for ideal, _ in pairs)
    given = sum(answer == label for _, answer in pairs)
    return ClassScore(
        label, wanted, _share(hits, given), _share(hits, wanted), _share(2 * hits, given + wanted)
    )


def _share(count: int, total: int) -> float | Missing:
    return count / total if total else Missing.NO_DATA
