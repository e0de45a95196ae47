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
    """A paired difference with its outcome. `changed` is the share of rows whose value differs."""

    outcome: Outcome
    rows: int
    difference: float | Missing
    interval: Interval | Missing
    p_value: float | Missing
    smallest_detectable: float | Missing
    changed: float | Missing

    @property
    def rows_needed(self) -> int | Missing:
        """The rows that would show the difference seen four times in five, were it the true one."""
        if isinstance(self.difference, Missing) or isinstance(self.changed, Missing):
            return Missing.NO_DATA
        return rows_needed(self.difference, self.changed)


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
        return Judgement("not_enough_rows", 0, none, none, none, none, none)
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
        )
    return _judged_means([a - b for b, a in pairs], changed)


def corrected(judgements: Sequence[Judgement]) -> list[Judgement]:
    """The same with p-values corrected for their number (Holm); what is no longer significant loses its verdict."""
    known = [i for i, j in enumerate(judgements) if not isinstance(j.p_value, Missing)]
    p_values = holm([_number(judgements[i].p_value) for i in known])
    out = list(judgements)
    for index, p_value in zip(known, p_values, strict=True):
        old = judgements[index]
        lost = old.outcome in ("better", "worse") and p_value >= 1 - LEVEL
        out[index] = replace(old, p_value=p_value, outcome="no_difference_seen" if lost else old.outcome)
    return out


def _judged_means(differences: Sequence[float], changed: float) -> Judgement:
    mean, p_value = bootstrap_mean(differences, bounds=(-1, 1)), sign_flip(differences)
    interval = mean if isinstance(mean, Missing) else mean.interval
    difference = sum(differences) / len(differences)
    detectable = _detectable_mean(differences)
    outcome: Outcome = "no_difference_seen"
    seen = not isinstance(interval, Missing) and 0 not in interval and _number(p_value) < 1 - LEVEL
    if seen:
        outcome = "better" if difference > 0 else "worse"
    elif isinstance(detectable, Missing) or detectable > USEFUL_MEAN:
        outcome = "not_enough_rows"
    return Judgement(outcome, len(differences), difference, interval, p_value, detectable, changed)


def _detectable_mean(differences: Sequence[float]) -> float | Missing:
    """(z_a + z_b) times the standard error of the mean difference (Cohen 1988, chapter 2, normal approximation)."""
    if len(differences) < 2:
        return Missing.TOO_FEW_ROWS
    z = NormalDist().inv_cdf((1 + LEVEL) / 2) + NormalDist().inv_cdf(POWER)
    return z * statistics.stdev(differences) / math.sqrt(len(differences))


def _number(value: float | Missing) -> float:
    assert not isinstance(value, Missing)
    return value


__all__ = ["USEFUL", "USEFUL_MEAN", "Judgement", "Score", "Values", "corrected", "is_pass_or_fail", "judged", "score_of"]
