"""Grading one sample with all graders of a task."""

from __future__ import annotations

from collections.abc import Sequence

from journeyman.grade.score import Graded, Grader, Item, Measured, NotMeasurableError, Sample
from journeyman.records import as_written


def grade_all(graders: Sequence[Grader], sample: Sample, item: Item) -> Graded:
    """Grade a sample with every grader; it passes where all pass.

    A task without graders is graded by EXACT_MATCH_WITH_IDEAL, and the score carries that name.
    """
    scores = tuple(grader.grade(sample, item) for grader in graders or (EXACT_MATCH_WITH_IDEAL,))
    verdicts = [score.passed for score in scores if score.passed is not None]
    if not all(verdicts):
        return Graded(scores, False)
    unmeasured = any(score.value is None for score in scores)
    return Graded(scores, None if unmeasured or not verdicts else True)


def _matches_ideal(sample: Sample, item: Item) -> Measured:
    if "ideal" not in item:
        raise NotMeasurableError("this row has no ideal output")
    ideal = as_written(str(item["ideal"]).strip(), item.get("ideal_tools", ()))
    equal = as_written(sample.output_text.strip(), sample.output_tools) == ideal
    return Measured(float(equal), equal)


EXACT_MATCH_WITH_IDEAL = Grader("exact_match_with_ideal", "exact_match", {}, _matches_ideal)
"""What a task without graders is graded by: the output is the ideal output, calls included, white space at the ends left out."""
