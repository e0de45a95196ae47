"""Statistics that are fit for few rows. Too little data gives a named value, never 0.

Shares are between 0 and 1, intervals two-sided at LEVEL unless told otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

LEVEL = 0.95
POWER = 0.8
"""The chance with which a difference is to be seen; 0.8 is the convention (Cohen 1988, section 2.4)."""


class Missing(Enum):
    """Why there is no number."""

    NO_DATA = "no_data"
    TOO_FEW_ROWS = "too_few_rows"
    NO_SPREAD = "no_spread"


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval."""

    low: float
    high: float
    level: float = LEVEL

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True, slots=True)
class Proportion:
    """A share with its counts and its interval."""

    count: int
    total: int
    interval: Interval

    @property
    def share(self) -> float:
        """The count by the total."""
        return self.count / self.total


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean with its number of values; no interval for a single value, nor where all are equal."""

    value: float
    total: int
    interval: Interval | Missing


@dataclass(frozen=True, slots=True)
class Paired:
    """Two yes-or-no outcomes on the same rows: `gained` turned to yes, `lost` turned to no."""

    both: int
    gained: int
    lost: int
    neither: int
    interval: Interval
    p_value: float

    @property
    def total(self) -> int:
        """All rows."""
        return self.both + self.gained + self.lost + self.neither

    @property
    def difference(self) -> float:
        """The share after, less the share before."""
        return (self.gained - self.lost) / self.total


def proportion(count: int, total: int, level: float = LEVEL) -> Proportion | Missing:
    """A share with Wilson's score interval.

    Wilson 1927, "Probable inference, the law of succession, and statistical inference"; recommended for small
    numbers by Brown, Cai and DasGupta 2001, "Interval estimation for a binomial proportion".
    """
    if total == 0:
        return Missing.NO_DATA
    return Proportion(count, total, _wilson(count, total, level))


def paired(before: Sequence[bool], after: Sequence[bool], level: float = LEVEL) -> Paired | Missing:
    """The difference of two shares on the same rows, with its interval and the exact McNemar p-value.

    The interval is Newcombe 1998, "Improved confidence intervals for the difference between binomial proportions
    based on paired data", method 10: Wilson intervals joined by their correlation.
    """
    pairs = list(zip(before, after, strict=True))
    if not pairs:
        return Missing.NO_DATA
    both, gained = pairs.count((True, True)), pairs.count((False, True))
    lost, neither = pairs.count((True, False)), pairs.count((False, False))
    interval = _newcombe(both, gained, lost, neither, level)
    return Paired(both, gained, lost, neither, interval, mcnemar(gained, lost))


def mcnemar(gained: int, lost: int) -> float:
    """The exact two-sided p-value for "as many rows are gained as lost"; 1 where no row has changed.

    McNemar 1947, "Note on the sampling error of the difference between correlated proportions"; exact form: twice
    the binomial tail with probability one half, at most 1.
    """
    changed = gained + lost
    tail = term = 1  # the binomial coefficients, each from the one before, exactly
    for k in range(min(gained, lost)):
        term = term * (changed - k) // (k + 1)
        tail += term
    return min(1.0, 2 * tail / (1 << changed))


def bootstrap_mean(
    values: Sequence[float],
    *,
    seed: int = 0,
    resamples: int = 5000,
    level: float = LEVEL,
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> Mean | Missing:
    """A mean with an interval that is fit for few and for skewed values; the same seed gives the same interval.

    It reaches as far at each end as the farther of two: the percentile bootstrap (Efron 1979, "Bootstrap methods:
    another look at the jackknife"), its quantiles moved outwards for small numbers (Hesterberg 2015, "What teachers
    should know about the bootstrap", section 5.3, "expanded percentile"), and Student's interval corrected for skewness
    (`_hall`). Either alone misses too often somewhere: the first for few skewed values, the second for few of three kinds.
    `bounds` are what a mean of such values can be at most. Pass differences for a paired comparison. The interval is
    NO_SPREAD where all values are equal: resamples of them would give an interval of width 0, which is not what the data
    say.
    """
    if not values:
        return Missing.NO_DATA
    array = np.asarray(values, dtype=np.float64)
    if len(values) == 1:
        return Mean(float(array[0]), 1, Missing.TOO_FEW_ROWS)
    if (array == array[0]).all():
        return Mean(float(array[0]), len(values), Missing.NO_SPREAD)
    generator = np.random.default_rng(seed)
    parts = _parts(resamples, len(array))
    means = np.concatenate([array[generator.integers(0, len(array), (part, len(array)))].mean(-1) for part in parts])
    tail = _expanded_tail(len(array), level)
    low, high = np.quantile(means, [tail, 1 - tail])
    skewed_low, skewed_high = _hall(array, level)
    low, high = max(min(low, skewed_low), min(bounds[0], array.min())), min(max(high, skewed_high), max(bounds[1], array.max()))
    return Mean(float(array.mean()), len(values), Interval(float(low), float(high), level))


PART_VALUES = 4_000_000
"""So many values of resamples are in memory at a time: 32 MB."""


def _parts(resamples: int, values: int) -> list[int]:
    """The resamples in parts that fit into memory; what is drawn, and in which order, does not change with them."""
    most = max(1, PART_VALUES // values)
    return [min(most, resamples - begun) for begun in range(0, resamples, most)]


def sign_flip(
    differences: Sequence[float], *, seed: int = 0, draws: int = 9999
) -> float | Missing:
    """The two-sided p-value for "the mean of the paired differences is 0": how often flipped signs give as much.

    Fisher 1935, "The design of experiments", section 21; by `draws` random flips, the observed signs counted as one
    of them (Phipson and Smyth 2010, "Permutation p-values should never be zero").
    """
    if not differences:
        return Missing.NO_DATA
    array = np.asarray(differences, dtype=np.float64)
    generator = np.random.default_rng(seed)
    signs = generator.integers(0, 2, (draws, len(array)), dtype=np.int8) * 2 - 1
    seen = abs(array.sum())
    sums = np.concatenate([part @ array for part in np.array_split(signs, len(_parts(draws, len(array))))])
    as_far = int((np.abs(sums) >= seen - 1e-12).sum())
    return (as_far + 1) / (draws + 1)


def rows_needed(
    difference: float, changed_share: float, *, level: float = LEVEL, power: float = POWER
) -> int | Missing:
    """How many rows a paired comparison needs to see a true difference with the chance `power`.

    Connor 1987 (see `smallest_detectable`), n = (z_a sqrt(p) + z_b sqrt(p - d²))² / d²; `changed_share` is p, the share
    of rows that change, and never below the difference. NO_DATA for a difference of 0: no number of rows shows it.
    """
    d = abs(difference)
    if d == 0:
        return Missing.NO_DATA
    z_a, z_b = NormalDist().inv_cdf((1 + level) / 2), NormalDist().inv_cdf(power)
    p = max(changed_share, d)
    rows = (z_a * math.sqrt(p) + z_b * math.sqrt(max(0.0, p - d * d))) ** 2 / (d * d)
    return max(math.ceil(rows - 1e-9), math.ceil(math.log2(2 / (1 - level))))


def smallest_detectable(
    rows: int, changed: int = 0, *, level: float = LEVEL, power: float = POWER
) -> float | Missing:
    """The smallest true difference that a paired comparison of `rows` rows would see with the chance `power`.

    Solves Connor 1987, "Sample size for testing differences in proportions for the paired-sample design",
    n d² = (z_a sqrt(p) + z_b sqrt(p - d²))², for the difference d. p is the share of rows that change: as seen
    (one half added, since none seen is not none), and never below d. Below the least number of rows that the
    exact test could ever call significant, the answer is TOO_FEW_ROWS.
    """
    least = math.ceil(math.log2(2 / (1 - level)))
    if rows < least:
        return Missing.TOO_FEW_ROWS
    z_a, z_b = NormalDist().inv_cdf((1 + level) / 2), NormalDist().inv_cdf(power)
    seen = (changed + 0.5) / (rows + 1)

    def is_seen(d: float) -> bool:
        p = max(seen, d)
        return rows * d * d >= (z_a * math.sqrt(p) + z_b * math.sqrt(max(0.0, p - d * d))) ** 2

    low, high = 0.0, 1.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (low, middle) if is_seen(middle) else (middle, high)
    return max(high, least / rows)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number, in the same order.

    Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    out = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        out[index] = highest
    return out


def _expanded_tail(count: int, level: float) -> float:
    """The share of resampled means to leave out at each end."""
    t = float(stdtrit(count - 1, (1 - level) / 2))
    return NormalDist().cdf(math.sqrt(count / (count - 1)) * t)


def _hall(values: npt.NDArray[np.float64], level: float) -> tuple[float, float]:
    """Student's interval for a mean, after the transformation that takes the skewness out of t.

    Hall 1992, "On the removal of skewness by transformation", equation 2.1 for g(t) = t + a t² + a² t³ / 3 + b with
    a = skewness / (3 sqrt n) and b = skewness / (6 sqrt n), which is a cubic that can be solved.
    """
    count, mean = len(values), values.mean()
    error = values.std(ddof=1) / math.sqrt(count)
    skewness = float(((values - mean) ** 3).mean() / values.std() ** 3)
    a, b = skewness / (3 * math.sqrt(count)), skewness / (6 * math.sqrt(count))
    t = float(stdtrit(count - 1, (1 + level) / 2))

    def solved(quantile: float) -> float:
        return quantile if abs(a) < 1e-9 else (float(np.cbrt(1 + 3 * a * (quantile - b))) - 1) / a

    return mean - error * solved(t), mean - error * solved(-t)


def _wilson(count: int, total: int, level: float) -> Interval:
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = count / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    low = 0.0 if count == 0 else max(0.0, centre - half)
    high = 1.0 if count == total else min(1.0, centre + half)
    return Interval(low, high, level)


def _newcombe(both: int, gained: int, lost: int, neither: int, level: float) -> Interval:
    total = both + gained + lost + neither
    after, before = (both + gained) / total, (both + lost) / total
    w_after, w_before = _wilson(both + gained, total, level), _wilson(both + lost, total, level)
    phi = _correlation(both, gained, lost, neither)
    difference = after - before
    below, above = after - w_after.low, w_before.high - before
    low = difference - math.sqrt(max(0.0, below**2 - 2 * phi * below * above + above**2))
    below, above = before - w_before.low, w_after.high - after
    high = difference + math.sqrt(max(0.0, above**2 - 2 * phi * above * below + below**2))
    return Interval(max(-1.0, low), min(1.0, high), level)


def _correlation(both: int, gained: int, lost: int, neither: int) -> float:
    """Newcombe's phi, with his continuity correction where it is positive; 0 where a margin is empty."""
    margins = (both + gained) * (lost + neither) * (both + lost) * (gained + neither)
    if margins == 0:
        return 0.0
    total = both + gained + lost + neither
    product = both * neither - gained * lost
    if product > 0:
        product_corrected = max(product - total / 2, 0.0)
    else:
        product_corrected = float(product)
    return product_corrected / math.sqrt(margins)
