"""Reliability diagrams show the bins as they are."""

from __future__ import annotations

import csv

import pytest

from prunebench.bench.evaluation.results import CalibrationRow, Results
from prunebench.figures.reliability import reliability, reliability_csv
from tests.figures.readable import assert_readable

BINS = [(0.0, 0.5, 30, 0.25, 0.5), (0.5, 0.9, 0, 0.0, 0.0), (0.9, 1.0, 10, 0.95, 0.75)]


def calibrated(results: Results, eces: dict[str, float]) -> Results:
    rows = [
        CalibrationRow(task="all", method=method, truth="potential", ece=ece, brier=0.1, bins=BINS)
        for method, ece in eces.items()
    ]
    return results.model_copy(update={"calibration": rows})


def test_bins_are_dots_of_their_share_and_empty_ones_are_left_out(results: Results) -> None:
    (panel,) = reliability(calibrated(results, {"stop": 0.2})).axes
    (dots,) = panel.collections
    assert [tuple(place) for place in dots.get_offsets()] == [(0.25, 0.5), (0.95, 0.75)]
    assert list(dots.get_sizes()) == [5 + 45, 5 + 15]


def test_the_best_calibrated_comes_first_and_all_is_readable(results: Results) -> None:
    figure = reliability(calibrated(results, {"stop": 0.3, "entropy": 0.1, "text-classifier": 0.2, "deepconf": 0.4}))
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["entropy", "text-classifier", "stop", "deepconf"]
    assert_readable(figure)


def test_the_data_have_a_line_per_bin(results: Results) -> None:
    lines = list(csv.DictReader(reliability_csv(calibrated(results, {"stop": 0.2})).splitlines()))
    assert [(line["count"], line["mean_truth"]) for line in lines] == [("30", "0.5"), ("0", "0"), ("10", "0.75")]


def test_without_such_a_method_it_says_so(results: Results) -> None:
    with pytest.raises(ValueError, match="no method of task 'all' claims probabilities"):
        reliability(results)
