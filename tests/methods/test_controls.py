from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from prunebench.methods.base import MissingSignalError, Quadrant, Signal
from prunebench.methods.controls.length import Length
from prunebench.methods.controls.none import NoPruning
from prunebench.methods.controls.oracle import Oracle
from prunebench.methods.controls.potential import Potential
from prunebench.methods.controls.random_choice import RandomChoice
from prunebench.methods.examples import example_pool


def test_none_ranks_nothing():
    assert NoPruning().score(example_pool(5)).tolist() == [0.0] * 5


def test_random_is_keyed_by_seed_and_problem():
    pool = example_pool(64, problem="a")
    first = RandomChoice(seed=3).score(pool)
    assert np.array_equal(first, RandomChoice(seed=3).score(example_pool(64, problem="a", seed=9)))
    assert not np.array_equal(first, RandomChoice(seed=4).score(pool))
    assert not np.array_equal(first, RandomChoice(seed=3).score(replace(pool, problem="b")))
    assert len(set(first)) == 64


def test_random_keeps_every_path_equally_often():
    pool = example_pool(8)
    kept = np.bincount([int(RandomChoice(seed=seed).score(pool).argmax()) for seed in range(2000)], minlength=8)
    assert abs(kept - 250).max() < 75  # five standard deviations


def test_the_privileged_controls_give_what_they_read():
    pool = example_pool()
    assert Oracle().score(pool).tolist() == pool.outcome.tolist()
    assert Potential().score(pool).tolist() == pool.potential.tolist()


@pytest.mark.parametrize("control", [Oracle(), Potential()])
def test_the_public_view_hides_outcomes(control):
    with pytest.raises(MissingSignalError, match="not recorded"):
        control.score(example_pool().public())


def test_length_puts_early_finishers_first_and_then_short_texts():
    pool = replace(
        example_pool(5),
        finished=np.array([False, True, False, True, False]),
        lengths=np.array([12, 9, 12, 4, 12]),
        signals={Signal.TEXT: ("abc", "a" * 99, "abcdef", "a" * 500, "ab")},
    )
    assert np.argsort(-Length().score(pool)).tolist() == [3, 1, 4, 0, 2]


def test_controls_have_no_quadrant_of_the_taxonomy():
    for kind in (NoPruning, RandomChoice, Oracle, Potential, Length):
        assert kind.quadrant() is Quadrant.CONTROL
