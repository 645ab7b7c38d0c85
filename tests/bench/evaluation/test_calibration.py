from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss

from prunebench.bench.evaluation.calibration import ReliabilityBin, brier, expected_calibration_error, reliability

PROBABILITIES = np.array([0.1, 0.2, 0.6, 0.9, 1.0])
OUTCOMES = np.array([0.0, 1.0, 1.0, 1.0, 0.0])


def test_reliability_by_hand():
    low, high = reliability(PROBABILITIES, OUTCOMES, bins=2)
    assert (low.low, low.high, low.count, low.mean_outcome) == (0, 0.5, 2, 0.5)
    assert low.mean_probability == pytest.approx(0.15)
    assert (high.low, high.high, high.count) == (0.5, 1, 3)
    assert high.mean_probability == pytest.approx(2.5 / 3)
    assert high.mean_outcome == pytest.approx(2 / 3)
    assert (low.gap, high.gap) == pytest.approx((-0.35, 0.5 / 3))


def test_expected_calibration_error_by_hand():
    # 2/5 * 0.35 + 3/5 * (0.5 / 3)
    assert expected_calibration_error(PROBABILITIES, OUTCOMES, bins=2) == pytest.approx(0.24)
    # of ten bins each holds one path at most
    assert expected_calibration_error(PROBABILITIES, OUTCOMES) == pytest.approx((0.1 + 0.8 + 0.4 + 0.1 + 1) / 5)


def test_brier_by_hand():
    assert brier(PROBABILITIES, OUTCOMES) == pytest.approx((0.01 + 0.64 + 0.16 + 0.01 + 1) / 5)
    assert brier(PROBABILITIES, OUTCOMES) == pytest.approx(brier_score_loss(OUTCOMES, PROBABILITIES))


def test_outcomes_may_be_rates():
    rates = np.array([0.25, 0.75])
    assert brier(np.array([0.5, 0.5]), rates) == 0.0625
    # they share a bin, and its errors cancel
    assert expected_calibration_error(np.array([0.5, 0.5]), rates) == 0
    assert reliability(np.array([0.5, 0.5]), rates) == [ReliabilityBin(0.4, 0.5, 2, 0.5, 0.5)]


def test_edges_belong_to_the_bin_below_and_zero_to_the_first():
    tenths = np.array([i / 10 for i in range(11)])
    bins = reliability(tenths, tenths)
    assert [one.count for one in bins] == [2] + [1] * 9
    assert [one.high for one in bins] == [i / 10 for i in range(1, 11)]


def test_empty_bins_are_left_out():
    bins = reliability(np.array([0.05, 0.95]), np.array([0.0, 1.0]))
    assert [(one.low, one.high) for one in bins] == [(0, 0.1), (0.9, 1)]


def test_calibrated_scores_have_hardly_any_error_and_the_brier_score_of_their_noise():
    random = np.random.default_rng(0)
    probabilities = random.random(200_000)
    outcomes = (random.random(200_000) < probabilities).astype(float)
    assert expected_calibration_error(probabilities, outcomes) < 0.005
    assert brier(probabilities, outcomes) == pytest.approx(1 / 6, abs=0.002)  # integral of p (1 - p)
    # claiming p^2 instead: the mean of abs(p - p^2)
    assert expected_calibration_error(probabilities**2, outcomes) == pytest.approx(1 / 6, abs=0.005)


def test_nothing_gives_nan():
    nothing = np.array([])
    assert reliability(nothing, nothing) == []
    assert math.isnan(expected_calibration_error(nothing, nothing))
    assert math.isnan(brier(nothing, nothing))


def test_an_unknown_outcome_makes_the_result_unknown():
    outcomes = np.array([0.0, math.nan])
    assert math.isnan(brier(np.array([0.1, 0.9]), outcomes))
    assert math.isnan(expected_calibration_error(np.array([0.1, 0.9]), outcomes))
    known, unknown = reliability(np.array([0.1, 0.9]), outcomes)
    assert known.mean_outcome == 0 and math.isnan(unknown.mean_outcome)


@pytest.mark.parametrize("measure", [reliability, expected_calibration_error, brier])
def test_what_is_no_probability_is_refused_with_its_row(measure):
    for wrong in (-0.1, 1.1, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"probability of row 1 is {wrong}"):
            measure(np.array([0.5, wrong]), np.array([0.0, 1.0]))
    for wrong in (-1.0, 2.0):
        with pytest.raises(ValueError, match=f"outcome of row 0 is {wrong}"):
            measure(np.array([0.5, 0.5]), np.array([wrong, 1.0]))
    with pytest.raises(ValueError, match=r"\(2,\) probabilities for \(1,\) outcomes"):
        measure(np.array([0.5, 0.5]), np.array([1.0]))


def test_there_is_at_least_one_bin():
    with pytest.raises(ValueError, match="0 bins"):
        reliability(PROBABILITIES, OUTCOMES, bins=0)


@settings(max_examples=100, deadline=None)
@given(
    pairs=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=30),
    bins=st.integers(1, 12),
    seed=st.integers(0, 9),
)
def test_calibration_error_is_bounded_grows_with_finer_bins_and_ignores_the_order(pairs, bins, seed):
    probabilities, outcomes = np.array(pairs).T
    error = expected_calibration_error(probabilities, outcomes, bins)
    in_one = expected_calibration_error(probabilities, outcomes, 1)
    rounding = 1e-12
    assert in_one == pytest.approx(abs(probabilities.mean() - outcomes.mean()), abs=rounding)
    assert in_one - rounding <= error <= np.abs(probabilities - outcomes).mean() + rounding
    assert error**2 <= brier(probabilities, outcomes) + rounding
    order = np.random.default_rng(seed).permutation(len(pairs))
    assert expected_calibration_error(probabilities[order], outcomes[order], bins) == pytest.approx(error, abs=rounding)
    assert sum(one.count for one in reliability(probabilities, outcomes, bins)) == len(pairs)
    for one in reliability(probabilities, outcomes, bins):
        assert one.low - rounding <= one.mean_probability <= one.high + rounding
