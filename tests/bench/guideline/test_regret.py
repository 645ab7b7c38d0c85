from __future__ import annotations

import numpy as np

from prunebench.bench.guideline.curves import curves_of
from prunebench.bench.guideline.regret import halves, lost, taken
from tests.made_up_sweep import made_up


def test_regret_is_zero_for_the_best_ratio_and_the_gap_for_another():
    curves = curves_of(made_up(noise=0.0), "stop")[:1]
    best = lambda curve: 1 / curve.gammas[curve.best]  # noqa: E731
    np.testing.assert_array_equal(lost(curves, best)[0], 0)
    values, refused_share = lost(curves, lambda _: 0.2)
    gap = 100 * (curves[0].maj[curves[0].best] - curves[0].maj[0])
    np.testing.assert_allclose(values, gap)
    assert refused_share == 1.0 and taken(curves[0], 7.0) == 3


def test_halves_are_disjoint_by_problem_and_the_same_every_time():
    sweep = made_up(problems=9)
    for task, (fit, held) in halves(sweep).items():
        assert sorted([*fit, *held]) == list(range(9)) and len(fit) == 4
        np.testing.assert_array_equal(halves(made_up(problems=9, seed=5))[task][0], fit)
