import math
import random
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from journeyman.evaluate import statistics
from journeyman.evaluate.statistics import (
    Missing,
    bootstrap_mean,
    holm,
    mcnemar,
    paired,
    proportion,
    rows_needed,
    sign_flip,
    smallest_detectable,
)


def outcomes(both, gained, lost, neither):
    before = [True] * both + [False] * gained + [True] * lost + [False] * neither
    after = [True] * both + [True] * gained + [False] * lost + [False] * neither
    return before, after


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [  # Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_gives_newcombes_published_intervals(count, total, low, high):
    result = proportion(count, total)
    assert result.interval.low == pytest.approx(low, abs=5e-5)
    assert result.interval.high == pytest.approx(high, abs=5e-5)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_share_and_mirrors(pair):
    count, total = pair
    result, mirror = proportion(count, total), proportion(total - count, total)
    assert 0 <= result.interval.low <= result.share <= result.interval.high <= 1
    assert result.interval.low == pytest.approx(1 - mirror.interval.high)


@pytest.mark.parametrize(
    ("gained", "lost", "p"),
    [(0, 0, 1), (5, 0, 0.0625), (6, 0, 0.03125), (1, 9, 22 / 1024), (4, 4, 1), (3, 5, 186 / 256)],
)
def test_exact_mcnemar_by_hand(gained, lost, p):
    assert mcnemar(gained, lost) == pytest.approx(p)


@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_is_a_symmetric_probability(gained, lost):
    assert 0 <= mcnemar(gained, lost) == mcnemar(lost, gained) <= 1


def test_newcombes_paired_example():
    # Newcombe 1998, "... based on paired data": 36, 12, 2, 0 has 0.0569 to 0.3404 by method 10.
    result = paired(*outcomes(both=36, gained=12, lost=2, neither=0))
    assert result.difference == pytest.approx(0.2)
    assert result.interval.low == pytest.approx(0.0569, abs=5e-5)
    assert result.interval.high == pytest.approx(0.3404, abs=5e-5)


def test_newcombes_continuity_correction_by_hand():
    # r, s, t, u = 14, 5, 0, 22: ru - st = 308, corrected by n/2 = 20.5, over sqrt(19 * 22 * 14 * 27) is 0.7233.
    # Without the correction the interval would be 0.0222 to 0.2168.
    result = paired(*outcomes(both=14, gained=5, lost=0, neither=22))
    assert result.interval.low == pytest.approx(0.0115, abs=5e-5)
    assert result.interval.high == pytest.approx(0.2265, abs=5e-5)


@given(st.tuples(*[st.integers(0, 40)] * 4).filter(any))
def test_a_paired_interval_holds_its_difference_and_mirrors(counts):
    both, gained, lost, neither = counts
    result = paired(*outcomes(both, gained, lost, neither))
    assert -1 <= result.interval.low <= result.difference + 1e-12
    assert result.difference - 1e-12 <= result.interval.high <= 1
    mirror = paired(*outcomes(both, lost, gained, neither))
    assert mirror.interval.low == pytest.approx(-result.interval.high)
    assert (result.both, result.gained, result.lost, result.neither) == counts


def test_paired_intervals_cover_the_truth_in_simulation():
    source = random.Random(1)
    covered = 0
    for _ in range(400):
        before = [source.random() < 0.5 for _ in range(60)]
        after = [b if source.random() < 0.6 else source.random() < 0.8 for b in before]
        covered += 0.12 in paired(before, after).interval  # 0.4 * (0.8 - 0.5)
    assert 0.92 <= covered / 400 <= 0.99


def test_bootstrap_is_seeded_and_close_to_the_normal_interval():
    source = random.Random(2)
    values = [source.gauss(1.0, 2.0) for _ in range(200)]
    result = bootstrap_mean(values, seed=3)
    assert result == bootstrap_mean(values, seed=3)
    assert result != bootstrap_mean(values, seed=4)
    mean = sum(values) / 200
    error = math.sqrt(sum((v - mean) ** 2 for v in values) / 199 / 200)
    assert result.value == pytest.approx(mean)
    assert result.interval.low == pytest.approx(mean - 1.96 * error, abs=0.04)
    assert result.interval.high == pytest.approx(mean + 1.96 * error, abs=0.04)


def test_no_data_is_named_and_never_zero():
    assert proportion(0, 0) is Missing.NO_DATA
    assert paired([], []) is Missing.NO_DATA
    assert bootstrap_mean([]) is Missing.NO_DATA
    assert bootstrap_mean([0.5]).interval is Missing.TOO_FEW_ROWS
    assert bootstrap_mean([0.0] * 50).interval is Missing.NO_SPREAD
    assert smallest_detectable(0) is Missing.TOO_FEW_ROWS
    assert smallest_detectable(5) is Missing.TOO_FEW_ROWS


def test_the_smallest_detectable_difference_is_seen_as_often_as_promised():
    rows, share_changed = 200, 0.3
    d = smallest_detectable(rows, changed=60)
    assert 0.09 < d < 0.13
    source = random.Random(5)
    seen = 0
    for _ in range(500):
        changed = sum(source.random() < share_changed for _ in range(rows))
        gained = sum(source.random() < (share_changed + d) / 2 / share_changed for _ in range(changed))
        seen += mcnemar(gained, changed - gained) < 0.05
    # Connor's formula is for the asymptotic test; the exact one sees a little less.
    assert 0.70 <= seen / 500 <= 0.88


@given(st.integers(6, 2000), st.integers(0, 100))
def test_more_rows_see_smaller_differences(rows, changed):
    changed = min(changed, rows)
    few, many = smallest_detectable(rows, changed), smallest_detectable(rows * 2, changed * 2)
    assert 0 < many <= few + 1e-6 <= 1 + 1e-5


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


# ── the same calls by scipy and statsmodels ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("count", "total"), [(0, 7), (3, 11), (60, 120), (119, 120)])
def test_wilson_is_statsmodels(count, total):
    proportions = pytest.importorskip("statsmodels.stats.proportion")
    low, high = proportions.proportion_confint(count, total, method="wilson")
    interval = proportion(count, total).interval
    assert (interval.low, interval.high) == (pytest.approx(low, abs=1e-12), pytest.approx(high, abs=1e-12))


@pytest.mark.parametrize(("gained", "lost"), [(0, 1), (5, 0), (12, 3), (40, 55)])
def test_mcnemar_is_statsmodels(gained, lost):
    tables = pytest.importorskip("statsmodels.stats.contingency_tables")
    result = tables.mcnemar([[10, gained], [lost, 10]], exact=True)
    assert mcnemar(gained, lost) == pytest.approx(result.pvalue, rel=1e-9)


def test_holm_is_statsmodels():
    multi = pytest.importorskip("statsmodels.stats.multitest")
    p_values = [0.01, 0.2, 0.04, 0.03, 0.04]
    assert holm(p_values) == pytest.approx(list(multi.multipletests(p_values, method="holm")[1]))


def test_sign_flips_are_scipys_permutation_test():
    stats = pytest.importorskip("scipy.stats")
    differences = [0.3, -0.1, 0.25, 0.4, 0.05, 0.1, -0.2, 0.3]
    exact = stats.permutation_test(
        (differences, [0.0] * 8), lambda x, y, axis: (x - y).mean(axis=axis), permutation_type="samples", vectorized=True
    ).pvalue
    assert sign_flip(differences) == pytest.approx(exact, abs=0.01)
    assert sign_flip(differences) == sign_flip(differences)
    assert sign_flip([0.5] * 20) < 0.001
    assert sign_flip([]) is Missing.NO_DATA


def test_rows_needed_and_smallest_detectable_are_each_others_inverse():
    needed = rows_needed(0.1, 0.3)
    assert needed == 234  # (1.95996 sqrt(0.3) + 0.84162 sqrt(0.29))^2 / 0.01 = 233.03
    assert smallest_detectable(needed, round(0.3 * needed)) == pytest.approx(0.1, abs=0.002)
    assert rows_needed(1.0, 1.0) == 6  # fewer could never be significant
    assert rows_needed(0.0, 0.3) is Missing.NO_DATA


@pytest.mark.parametrize(
    "draw",
    [
        lambda source: source.expovariate(1.0) - 1,
        lambda source: 1 - source.expovariate(1.0),
        lambda source: source.choice([-1.0, 0.0, 0.0, 0.0, 1.0]),
        lambda source: source.random() - 0.5,
    ],
    ids=["skewed up", "skewed down", "three grades", "even"],
)
def test_the_interval_of_twenty_values_covers_their_true_mean_as_often_as_it_says(draw):
    source = random.Random(11)
    made = [bootstrap_mean([draw(source) for _ in range(20)], resamples=1000).interval for _ in range(600)]
    assert sum(0 in interval for interval in made) / 600 == pytest.approx(0.955, abs=0.025)


def test_the_interval_of_a_mean_stays_within_what_a_mean_can_be():
    values = [1.0, 1.0, 1.0, 0.2]
    assert bootstrap_mean(values).interval.high > 1 > bootstrap_mean(values, bounds=(0, 1)).interval.low
    assert bootstrap_mean(values, bounds=(0, 1)).interval.high == 1.0
    assert bootstrap_mean([0.0, 0.0, 3.0], bounds=(0, 1)).interval.high == 3.0  # a grader whose scale is another


def test_a_bootstrap_interval_of_few_values_is_as_wide_as_students():
    stats = pytest.importorskip("scipy.stats")
    values = [0.1, 0.5, 0.35, 0.8, 0.62, 0.44, 0.2, 0.71]
    low, high = stats.t.interval(0.95, 7, loc=sum(values) / 8, scale=stats.sem(values))
    interval = bootstrap_mean(values).interval
    assert interval.high - interval.low == pytest.approx(high - low, rel=0.1)


def test_many_rows_take_little_memory_and_parts_change_nothing(monkeypatch) -> None:
    values = np.random.default_rng(0).normal(0.01, 1, 3000).tolist()
    whole = bootstrap_mean(values, resamples=300), sign_flip(values, draws=300)
    monkeypatch.setattr(statistics, "PART_VALUES", 100_000)
    assert (bootstrap_mean(values, resamples=300), sign_flip(values, draws=300)) == whole
    tracemalloc.start()
    bootstrap_mean(values, resamples=300)
    sign_flip(values, draws=300)
    assert tracemalloc.get_traced_memory()[1] < 6 * 2**20, "of one part, and the signs at a byte each"
    tracemalloc.stop()
