"""Two answerers on the same rows: better, worse, no difference seen, or not enough rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from journeyman.errors import DataError
from journeyman.evaluate.run import Scores
from journeyman.evaluate.statistics import LEVEL, Interval, Missing, Paired, paired, smallest_detectable

Outcome = Literal["better", "worse", "no_difference_seen", "not_enough_rows"]

USEFUL = 0.2
"""A comparison that would miss a true difference of 20 points is too small to say "no difference seen"."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Rows by what happened: passed in both, only after, only before, in neither; and not measured in one of them."""

    both: int
    gained: int
    lost: int
    neither: int
    unmeasured: int

    @property
    def measured(self) -> int:
        """Rows that passed or failed in both."""
        return self.both + self.gained + self.lost + self.neither


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome with its numbers, and a sentence for people.

    `smallest_detectable` is the true difference that so many rows would have shown four times in five.
    """

    outcome: Outcome
    difference: float | Missing
    interval: Interval | Missing
    p_value: float | Missing
    smallest_detectable: float | Missing
    counts: Counts
    sentence: str


def compare(before: Scores, after: Scores, *, level: float = LEVEL) -> Verdict:
    """Compare whether rows pass. Raises DataError where the two were not scored on the same rows."""
    check_same_rows(before, after)
    return judge(
        [row.graded.passed for row in before.rows], [row.graded.passed for row in after.rows], level=level
    )


def judge(before: Sequence[bool | None], after: Sequence[bool | None], *, level: float = LEVEL) -> Verdict:
    """The verdict on paired outcomes; rows with None on either side are counted, and left out.

    Better or worse takes both an exact McNemar p-value below 1 - level and an interval without 0.
    """
    pairs = [(b, a) for b, a in zip(before, after, strict=True) if b is not None and a is not None]
    unmeasured = len(before) - len(pairs)
    result = paired([b for b, _ in pairs], [a for _, a in pairs], level)
    if isinstance(result, Missing):
        missing = Missing.NO_DATA
        counts = Counts(0, 0, 0, 0, unmeasured)
        sentence = f"Nothing can be said: no row could be measured on both sides{_left_out(unmeasured)}."
        return Verdict("not_enough_rows", missing, missing, missing, missing, counts, sentence)
    detectable = smallest_detectable(result.total, result.gained + result.lost, level=level)
    outcome = _outcome(result, detectable)
    counts = Counts(result.both, result.gained, result.lost, result.neither, unmeasured)
    sentence = _sentence(outcome, result, detectable, unmeasured)
    return Verdict(outcome, result.difference, result.interval, result.p_value, detectable, counts, sentence)


def check_same_rows(before: Scores, after: Scores) -> None:
    """Refuse to compare what can't be paired."""
    if [row.place for row in before.rows] != [row.place for row in after.rows]:
        raise DataError(
            f"{before.name} and {after.name} were scored on different rows "
            f"({len(before.rows)} and {len(after.rows)})",
            fix="evaluate both on the same held-out rows",
            code="rows_differ",
        )


def _outcome(result: Paired, detectable: float | Missing) -> Outcome:
    if result.p_value < 1 - result.interval.level and 0 not in result.interval:
        return "better" if result.difference > 0 else "worse"
    if isinstance(detectable, Missing) or detectable > USEFUL:
        return "not_enough_rows"
    return "no_difference_seen"


def _sentence(outcome: Outcome, result: Paired, detectable: float | Missing, unmeasured: int) -> str:
    total = result.total
    shares = f"{result.both + result.lost} of {total} passed before, {result.both + result.gained} after"
    interval = f"{_points(result.interval.low)} to {_points(result.interval.high)} points"
    end = f"{_left_out(unmeasured)}."
    if outcome in ("better", "worse"):
        return (
            f"{outcome.capitalize()}: {shares}; {_points(result.difference)} points "
            f"({result.interval.level:.0%} interval {interval}, p {_p(result.p_value)}){end}"
        )
    if outcome == "no_difference_seen":
        seen = (
            ""
            if isinstance(detectable, Missing)
            else f"; a true one of {100 * detectable:.0f} points would have shown"
        )
        return f"No difference seen: {shares} (interval {interval}){seen}{end}"
    if isinstance(detectable, Missing):
        return f"Not enough rows to tell: {shares}; {total} rows could show no difference of any size{end}"
    return (
        f"Not enough rows to tell: {shares}; {total} rows show only a true difference of "
        f"{100 * detectable:.0f} points or more{end}"
    )


def _left_out(unmeasured: int) -> str:
    return f" ({unmeasured} rows could not be measured and are left out)" if unmeasured else ""


def _points(share: float) -> str:
    return f"{100 * share:+.1f}"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"
