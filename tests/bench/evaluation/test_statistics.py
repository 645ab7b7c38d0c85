from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from prunebench.bench.evaluation.statistics import (
    PERCENT,
    POINTS,
    Interval,
    equivalence_p,
    holm,
    mean_interval,
    minimum_detectable_difference,
    problems_to_equate,
    problems_to_find,
    ratio_of_means,
    sign_flip_p,
    spread,
)


def undefined(interval):
    return all(math.isnan(value) for value in (interval.mean, interval.low, interval.high))


def test_mean_interval_by_hand():
    # mean 2, standard error sqrt(6 / 8) / 3, t(0.975, 8) = 2.30600
    interval = mean_interval(np.repeat([1.0, 2.0, 3.0], 3))
    assert interval.mean == 2
    assert interval.high - 2 == pytest.approx(2.30600 * math.sqrt(0.75) / 3, rel=1e-5)
    assert interval.low + interval.high == pytest.approx(4)
    assert mean_interval(np.repeat([1.0, 2.0, 3.0], 3), bounds=(0.0, 10.0)) == interval, "inside its bounds"


def test_an_interval_ends_where_values_end():
    # 8 right answers and 2 problems imagined at each bound: mean 10 / 12, deviation sqrt(20) / 12, t(0.975, 7) 2.36462
    right = mean_interval(np.full(8, 100.0), bounds=PERCENT)
    assert (right.mean, right.high) == (100, 100)
    assert right.low == pytest.approx(100 * (10 / 12 - 2.36462 * math.sqrt(20) / 12 / math.sqrt(12)), rel=1e-5)
    wrong = mean_interval(np.zeros(8), bounds=PERCENT)
    assert (wrong.low, wrong.high) == pytest.approx((0, 100 - right.low))
    assert mean_interval(np.zeros(8), bounds=POINTS) == Interval(0, 0, 0)
    seconds = mean_interval(np.array([1e-4] * 7 + [1.0]), bounds=(0, math.inf))
    assert seconds.low == 0 < seconds.mean < seconds.high


def test_fewer_than_eight_problems_have_a_mean_and_no_interval():
    few = mean_interval(np.array([0.0, 100, 0, 100, 0, 0, 0]), bounds=PERCENT)
    assert few.mean == pytest.approx(200 / 7) and math.isnan(few.low) and math.isnan(few.high)
    ratio = ratio_of_means(np.ones(7), np.full(7, 2.0), seed=0)
    assert ratio.mean == 0.5 and math.isnan(ratio.low)


def test_mean_interval_is_undefined_rather_than_zero():
    one = mean_interval(np.array([3.0]))
    assert one.mean == 3
    assert math.isnan(one.low) and math.isnan(one.high)
    for values in ([], [math.nan], [1, math.nan], [1, math.inf], [-math.inf]):
        assert undefined(mean_interval(np.array(values, float)))


def test_equal_values_have_an_interval_of_no_width():
    assert mean_interval(np.full(8, 0.25)) == Interval(0.25, 0.25, 0.25)


def test_spread_is_the_standard_deviation_over_draws():
    assert spread(np.array([1.0, 2.0, 4.0])) == pytest.approx(math.sqrt(7 / 3))  # squares 16/9 + 1/9 + 25/9, over 2
    assert spread(np.full(3, 0.5)) == 0
    for values in ([], [1], [1, math.nan], [1, math.inf]):
        assert math.isnan(spread(np.array(values, float)))


def test_sign_flip_by_hand():
    # |sum| of (1, 2, 3) under 8 patterns: 6 twice, so 2 of 8
    assert sign_flip_p(np.array([1.0, 2.0, 3.0]), seed=0) == 0.25
    # (1, 2, -3) sums to 0: every pattern is as extreme
    assert sign_flip_p(np.array([1.0, 2.0, -3.0]), seed=0) == 1
    # |sum| of (3, 1, 1) is 5, 3, 3, 1, ...; observed (3, 1, -1) -> 3: 6 of 8
    assert sign_flip_p(np.array([3.0, 1.0, -1.0]), seed=0) == 0.75


def test_sign_flip_of_no_difference_is_one_and_of_nothing_nan():
    assert sign_flip_p(np.zeros(4), seed=0) == 1
    assert sign_flip_p(np.zeros(40), seed=0) == 1
    assert math.isnan(sign_flip_p(np.array([]), seed=0))
    assert math.isnan(sign_flip_p(np.array([1.0, np.nan]), seed=0))


@pytest.mark.parametrize("n", [4, 40])
@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_sign_flip_of_a_difference_that_is_no_number_is_nan(n, odd):
    assert math.isnan(sign_flip_p(np.array([odd] + [0.1] * (n - 1)), seed=0))


def test_one_difference_proves_nothing():
    assert sign_flip_p(np.array([5.0]), seed=0) == 1


def test_drawn_sign_flips_are_seeded_never_zero_and_near_the_t_test():
    values = np.random.default_rng(5).normal(0.35, 1, 40)
    p = sign_flip_p(values, seed=3)
    assert p == sign_flip_p(values, seed=3)
    assert p == pytest.approx(ttest_1samp(values, 0).pvalue, abs=0.01)
    assert sign_flip_p(np.ones(60), seed=0) == 1 / 10_001


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1, 1]
    assert holm([]) == []


def test_holm_leaves_nan_out_of_the_family():
    adjusted = holm([0.01, math.nan, 0.04])
    assert adjusted[0] == pytest.approx(0.02)
    assert math.isnan(adjusted[1])
    assert adjusted[2] == pytest.approx(0.04)
    assert all(math.isnan(p) for p in holm([math.nan, math.nan]))


def test_ratio_of_means_of_proportional_columns_is_exact():
    below = np.random.default_rng(0).normal(1, 0.2, 30)
    ratio = ratio_of_means(0.25 * below, below, seed=1)
    assert (ratio.mean, ratio.low, ratio.high) == pytest.approx((0.25, 0.25, 0.25))
    assert ratio.scaled(100).mean == pytest.approx(25)


def test_ratio_of_means_brackets_the_ratio_and_is_seeded():
    generator = np.random.default_rng(2)
    below = generator.normal(1, 0.5, 50)
    above = 0.5 * below + generator.normal(0, 0.2, 50)
    ratio = ratio_of_means(above, below, seed=1)
    assert ratio == ratio_of_means(above, below, seed=1)
    assert ratio.low < ratio.mean < ratio.high
    assert ratio.mean == pytest.approx(above.mean() / below.mean())


def test_ratio_to_nothing_is_nan():
    noise = np.random.default_rng(0).normal(0, 1, 30)
    for ratio in (
        ratio_of_means(np.ones(30), noise - noise.mean(), seed=0),
        ratio_of_means(np.ones(5), np.zeros(5), seed=0),
        ratio_of_means(np.ones(1), np.ones(1), seed=0),
        ratio_of_means(np.ones(3), np.array([1.0, np.nan, 1.0]), seed=0),
        ratio_of_means(np.ones(3), np.array([1.0, np.inf, 1.0]), seed=0),
        ratio_of_means(np.array([1.0, np.inf, 1.0]), np.ones(3), seed=0),
        ratio_of_means(np.array([]), np.array([]), seed=0),
    ):
        assert isinstance(ratio, Interval)
        assert undefined(ratio)
    with pytest.raises(ValueError, match="3 numerators for 2"):
        ratio_of_means(np.ones(3), np.ones(2), seed=0)


def test_the_minimum_detectable_difference_is_found_80_times_in_100():
    n = 30
    difference = minimum_detectable_difference(2.0, n)
    draws = np.random.default_rng(4).normal(difference, 2.0, (2000, n))
    found = ttest_1samp(draws, 0, axis=1).pvalue < 0.05
    assert found.mean() == pytest.approx(0.80, abs=0.03)
    assert math.isnan(minimum_detectable_difference(2.0, 1))


@pytest.mark.parametrize("deviation", [0.0, -1.0, math.nan, math.inf])
def test_a_sample_without_spread_does_not_say_what_could_be_detected(deviation):
    assert math.isnan(minimum_detectable_difference(deviation, 30))


def test_equivalence_is_shown_95_times_in_100_at_most_where_it_is_not_true():
    random = np.random.default_rng(5)
    at_the_margin, equal = random.normal(2.0, 6.0, (2000, 40)), random.normal(0.0, 4.0, (2000, 40))
    assert np.mean([equivalence_p(draw, 2.0) < 0.05 for draw in at_the_margin]) == pytest.approx(0.05, abs=0.015)
    expected = [max(ttest_1samp(d, -2, alternative="greater").pvalue, ttest_1samp(d, 2, alternative="less").pvalue)
                for d in equal[:20]]  # fmt: skip
    assert [equivalence_p(draw, 2.0) for draw in equal[:20]] == pytest.approx(expected)
    assert math.isnan(equivalence_p(np.zeros(40), 2.0)), "what never differed"
    assert math.isnan(equivalence_p(equal[0][:7], 2.0))


def test_as_many_problems_as_are_said_find_or_equate_80_times_in_100():
    random, spread = np.random.default_rng(6), 20.0
    few, many = int(problems_to_find(spread, 10)), int(problems_to_equate(spread, 0, 5))
    assert minimum_detectable_difference(spread, few) <= 10 < minimum_detectable_difference(spread, few - 1)
    found = ttest_1samp(random.normal(10, spread, (2000, few)), 0, axis=1).pvalue < 0.05
    assert found.mean() == pytest.approx(0.80, abs=0.03)
    equated = [equivalence_p(draw, 5.0) < 0.05 for draw in random.normal(0, spread, (1000, many))]
    assert np.mean(equated) == pytest.approx(0.80, abs=0.04)
    off = random.normal(2, spread, (1000, int(problems_to_equate(spread, -2, 5))))
    assert np.mean([equivalence_p(draw, 5.0) < 0.05 for draw in off]) == pytest.approx(0.80, abs=0.04)
    assert problems_to_equate(spread, 5, 5) == math.inf and math.isnan(problems_to_equate(0.0, 0, 5))
    assert problems_to_find(spread, 10, tests=10) > few, "Holm's first step asks more"
    assert problems_to_find(spread, 0) == problems_to_find(spread, 1e-16) == math.inf, "what rounding left"
    assert math.isnan(problems_to_find(0.0, 5))
