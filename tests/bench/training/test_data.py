from __future__ import annotations

from prunebench.bench.training.data import labelled_pools, training_lengths
from tests.bench.rollouts.test_pools import POSITION, labels_for, stored  # noqa: F401 - a fixture


def test_training_lengths_are_half_once_and_twice():
    assert training_lengths(40) == (20, 40, 80)
    assert training_lengths(1) == (1, 1, 2)


def test_labelled_pools_hold_each_distinct_labelled_prefix_once(engine, stored, tmp_path):  # noqa: F811
    dataset = labelled_pools(engine, [stored], labels_for(tmp_path, stored, (0, 2, 4)), POSITION)
    (labelled,) = dataset
    assert labelled.outcome.tolist() == [1, 1]
    assert labelled.final_class.tolist() == [0, 0]
    assert labelled.pool.paths.tolist() == [0, 2]
    assert labelled.continuations == 4
