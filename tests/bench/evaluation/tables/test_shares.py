"""Gains over the share of confident errors, and where two methods change places."""

import numpy as np
import pytest

from prunebench.bench.errors import UserError
from prunebench.bench.evaluation.tables.shares import _crossing, shares_of
from tests.bench.evaluation.tables.test_main import record

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


def lines(rng, at, slope, problems=100, noise=15.0):
    """Differences of single problems whose mean is a line that is 0 at a share, and where they stand."""
    places = {share: list(range(number * problems, (number + 1) * problems)) for number, share in enumerate(SHARES)}
    means = np.repeat([slope * (share - at) for share in SHARES], problems)
    return means + rng.normal(0, noise, len(means)), places


def test_a_crossing_is_found_where_it_is_and_its_interval_covers_it():
    rng, covered = np.random.default_rng(0), 0
    for trial in range(100):
        at = rng.uniform(0.3, 0.7)
        differences, places = lines(rng, at, slope=20.0)
        crossing = _crossing("a", "b", differences, places, seed=trial)
        assert crossing.none.high < 0 < crossing.all.low
        assert abs(crossing.at.mean - 100 * at) < 30
        covered += crossing.at.low <= 100 * at <= crossing.at.high
    assert 88 <= covered <= 100


@pytest.mark.parametrize(("at", "slope"), [(0.5, 0.0), (-1.0, 20.0), (2.0, 20.0)])
def test_lines_that_do_not_cross_are_not_said_to(at, slope):
    rng = np.random.default_rng(1)
    said = [not np.isnan(_crossing("a", "b", *lines(rng, at, slope), seed=trial).at.mean) for trial in range(100)]
    assert sum(said) <= 5  # of 100, each at 5 %


def test_shares_are_those_of_the_tasks():
    tasks = ["synthetic/power", "synthetic-75/power", "synthetic/program", "synthetic-75/power"]
    assert shares_of([record(task=task) for task in tasks]) == {0.0: [0, 2], 0.75: [1, 3]}
    with pytest.raises(UserError, match="one share of confident errors: compare several"):
        shares_of([record(task="synthetic-50/power")])
    with pytest.raises(UserError, match="nobody knows how many errors on aime24 are confident"):
        shares_of([record(task="synthetic/power"), record(task="aime24")])
