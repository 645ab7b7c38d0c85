"""What is charged where it arises, and how it adds up."""

from __future__ import annotations

import numpy as np
import pytest

from prunebench.methods.examples import example_pool
from prunebench.methods.meter import Charge, Cost, Meter


def metered(paths=3):
    meter = Meter()
    return example_pool(paths).metered(meter), meter


def test_one_number_is_for_each_path_and_a_column_for_its_own():
    pool, meter = metered()
    pool.charge(check_tokens=4)
    pool.charge(reencoded_tokens=np.array([1, 2, 3]), probe_tokens=1)
    assert meter.cost == Cost(reencoded_tokens=6, probe_tokens=3, check_tokens=12)
    pool.take([2]).charge(check_tokens=5)
    assert meter.cost.check_tokens == 17


def test_without_a_meter_nothing_is_noted():
    pool = example_pool()
    pool.charge(check_tokens=1)
    assert pool.meter is None and pool.apart() is pool


def test_the_tokens_of_another_model_are_not_the_generators():
    pool, meter = metered()
    pool.charge(reencoded_tokens=2, flops=np.array([1.0, 2.0, 4.0]), model_bytes=8)
    assert meter.cost == Cost(reencoded_tokens=6, flops=7.0, model_bytes=8)
    pool.charge(check_tokens=1)
    assert meter.cost == Cost(reencoded_tokens=6, check_tokens=3, flops=7.0, generator_tokens=3, model_bytes=8)


def test_what_bears_one_name_is_charged_once():
    pool, meter = metered()
    pool.charge(reencoded_tokens=np.array([5, 7, 5]), flops=np.array([1.0, 2.0, 1.0]), read=["a", "b", "a"])
    assert meter.cost == Cost(reencoded_tokens=12, flops=3.0)
    pool.charge(reencoded_tokens=7, read=["b", "b", "c"])
    assert meter.cost.tokens == 19


def test_methods_that_score_as_one_share_no_reading():
    pool, meter = metered()
    for part in (pool.apart(), pool.apart()):
        part.charge(reencoded_tokens=5, read=["a", "a", "b"])
    assert meter.cost.tokens == 20
    pool.charge(reencoded_tokens=5, read=["a", "a", "b"])
    assert meter.cost.tokens == 30


def test_a_part_of_the_paths_causes_its_part_of_the_charges():
    pool, meter = metered(4)
    pool.charge(reencoded_tokens=np.array([1, 2, 4, 8]), read=["a", "b", "a", "b"])
    pool.charge(check_tokens=1, flops=2.0)
    some = Cost.of(charge.of(np.array([3, 2])) for charge in meter.charges)
    assert some == Cost(reencoded_tokens=12, check_tokens=2, flops=4.0, generator_tokens=12)
    none = Charge(np.zeros(0, np.int64), np.zeros((0, 3), np.int64))
    assert none.cost == Cost()


def test_a_charge_that_cannot_be_is_refused():
    pool, _ = metered()
    for wrong in ({"check_tokens": -1}, {"flops": np.array([1.0, np.nan, 1.0])}, {"model_bytes": -1}):
        with pytest.raises(ValueError, match="give numbers of at least 0"):
            pool.charge(**wrong)
    with pytest.raises(ValueError, match="1 readings of 3 paths; give one name per path"):
        pool.charge(check_tokens=1, read=["a"])
