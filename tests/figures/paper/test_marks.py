"""Published numbers in the units of the figures."""

from __future__ import annotations

import pytest

from prunebench.figures.paper import published
from prunebench.figures.paper.marks import published_points


def test_a_point_is_the_mean_over_data_sets_of_gains_and_token_shares() -> None:
    point = next(one for one in published_points() if (one.model, one.quadrant) == ("DS-Qwen-2.5-1.5B", "IV"))
    rows = {(r.dataset, r.type): r for r in published.main_table() if r.model == "DS-Qwen-2.5-1.5B"}
    datasets = {dataset for dataset, _ in rows}
    gains = [rows[d, "IV"].acc - rows[d, "baseline"].acc for d in datasets]
    assert len(datasets) == 5
    assert point.gain == pytest.approx(sum(gains) / 5)
    # the reduction as the paper prints it, rounded to two decimals
    assert point.tokens_percent == pytest.approx(100 + sum(rows[d, "IV"].reduction_pct for d in datasets) / 5, abs=0.05)


def test_every_model_has_its_four_types() -> None:
    points = published_points()
    assert {point.quadrant for point in points} == {"I", "II", "III", "IV"}
    assert len(points) == len({(point.model, point.quadrant) for point in points}) == 16
