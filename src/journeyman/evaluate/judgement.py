"""Two contenders on the same rows, by pass or fail or by a value between 0 and 1, and many of them corrected together."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

from journeyman.evaluate.statistics import (
    LEVEL,
    POWER,
    Interval,
    Missing,
    bootstrap_mean,
    holm,
    proportion,
    rows_needed,
    sign_flip,
)
from journeyman.evaluate.verdict import USEFUL, Outcome, judge

USEFUL_MEAN = 0.05
"""For values between 0 and 1: a comparison that would miss a true difference of 0.05 says "not enough rows"."""

Values = Sequence[float | None]
"""A value for each row; None where the row could not be measured."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """A paired difference with its outcome. `changed` is the share of rows whose value differs.

    `spread` is the standard deviation of the rows' differences, where these are not of passed and failed.
    """

    outcome: Outcome
    rows: int
    difference: float | Missing
    interval: Interval | Missing
    p_value: float | Missing
    smallest_detectable: float | Missing
    changed: float | Missing
    could_miss: bool = False
    """Whether a difference that is worth having could have been missed."""

    spread: float | None = None

    @property
    def rows_needed(self) -> int | Missing:
        """The rows that would show the difference seen four times in five, were it the true one."""
        if isinstance(self.difference, Missing) or isinstance(self.changed, Missing):
            return Missing.NO_DATA
        return self.rows_for(self.difference)

    def rows_for(self, difference: float, level: float = LEVEL) -> int | Missing:
        """The rows that would show such a true difference four times in five, where the rows vary as they do here."""
        if self.spread is None:
            return rows_needed(difference, 0.0 if isinstance(self.changed, Missing) else self.changed, level=level)
        if difference == 0:
            return Missing.NO_DATA
        rows = math.ceil((_quantiles(level) * self.spread / difference) ** 2)
        return max(rows, math.ceil(math.log2(2 / (1 - level))))  # fewer can't be significant: so many have too few signs to flip


@dataclass(frozen=True, slots=True)
class Score:
    """A contender's score over the rows that could be measured."""

    value: float | Missing
    interval: Interval | Missing
    rows: int


def is_pass_or_fail(columns: Sequence[Values]) -> bool:
    """Whether the values of all contenders are 0 or 1 throughout."""
    return all(value in (0, 1, None) for values in columns for value in values)


def score_of(values: Values, *, pass_or_fail: bool) -> Score:
    """The share of rows passed with Wilson's interval, or the mean with its interval."""
    known = [v for v in values if v is not None]
    if not known:
        return Score(Missing.NO_DATA, Missing.NO_DATA, 0)
    if pass_or_fail:
        share = proportion(round(sum(known)), len(known))
        interval = share if isinstance(share, Missing) else share.interval
        return Score(sum(known) / len(known), interval, len(known))
    mean = bootstrap_mean(known, bounds=(0, 1))
    return Score(
        sum(known) / len(known), mean if isinstance(mean, Missing) else mean.interval, len(known)
    )


def judged(before: Values, after: Values, *, pass_or_fail: bool) -> Judgement:
    """The difference after - before on the rows that both could be measured on."""
    pairs = [(b, a) for b, a in zip(before, after, strict=True) if b is not None and a is not None]
    if not pairs:
        none = Missing.NO_DATA
        return Judgement("not_enough_rows", 0, none, none, none, none, none, could_miss=True)
    changed = sum(b != a for b, a in pairs) / len(pairs)
    if pass_or_fail:
        verdict = judge([b == 1 for b, _ in pairs], [a == 1 for _, a in pairs])
        return Judgement(
            verdict.outcome,
            len(pairs),
            verdict.difference,
            verdict.interval,
            verdict.p_value,
            verdict.smallest_detectable,
            changed,
            _is_more(verdict.smallest_detectable, USEFUL),
        )
    return _judged_means([a - b for b, a in pairs], changed)


def corrected(judgements: Sequence[Judgement]) -> list[Judgement]:
    """The same with p-values corrected for their number (Holm); what is no longer significant loses its verdict.

    Too few rows stay too few: of them a difference that the correction takes away is not said to be none.
    """
    known = [i for i, j in enumerate(judgements) if not isinstance(j.p_value, Missing)]
    p_values = holm([_number(judgements[i].p_value) for i in known])
    out = list(judgements)
    for index, p_value in zip(known, p_values, strict=True):
        old = judgements[index]
        lost = old.outcome in ("better", "worse") and p_value >= 1 - LEVEL
        without: Outcome = "not_enough_rows" if old.could_miss else "no_difference_seen"
        out[index] = replace(old, p_value=p_value, outcome=without if lost else old.outcome)
    return out


def _judged_means(differences: Sequence[float], changed: float) -> Judgement:
    mean, p_value = bootstrap_mean(differences, bounds=(-1, 1)), sign_flip(differences)
    interval = mean if isinstance(mean, Missing) else mean.interval
    difference = sum(differences) / len(differences)
    detectable = _detectable_mean(differences)
    could_miss = _is_more(detectable, USEFUL_MEAN)
    outcome: Outcome = "not_enough_rows" if could_miss else "no_difference_seen"
    seen = not isinstance(interval, Missing) and 0 not in interval and _number(p_value) < 1 - LEVEL
    if seen:
        outcome = "better" if difference > 0 else "worse"
    spread = statistics.stdev(differences) if len(differences) > 1 else None
    return Judgement(outcome, len(differences), difference, interval, p_value, detectable, changed, could_miss, spread)


def _detectable_mean(differences: Sequence[float]) -> float | Missing:
    """(z_a + z_b) times the standard error of the mean difference (Cohen 1988, chapter 2, normal approximation)."""
    if len(differences) < 2:
        return Missing.TOO_FEW_ROWS
    return _quantiles(LEVEL) * statistics.stdev(differences) / math.sqrt(len(differences))


def _quantiles(level: float) -> float:
    return NormalDist().inv_cdf((1 + level) / 2) + NormalDist().inv_cdf(POWER)


def _is_more(detectable: float | Missing, useful: float) -> bool:
    return isinstance(detectable, Missing) or detectable > useful


def _number(value: float | Missing) -> float:
    assert not isinstance(value, Missing)
    return value


__all__ = ["USEFUL", "USEFUL_MEAN", "Judgement", "Score", "Values", "corrected", "is_pass_or_fail", "judged", "score_of"]
