from __future__ import annotations

import os

import pytest

from prunebench.bench.perf.clock import beside_a_busy_process, check_cost
from prunebench.methods.examples import example_dataset
from prunebench.methods.learned.stop import Stop


def test_both_sides_of_the_check_are_timed(engine):
    stop = Stop(tokens=2, rank=4, epochs=1).fit(
        example_dataset(2, seed=1, generator=engine), example_dataset(2, seed=2, generator=engine)
    )
    cost = check_cost(engine, stop, prefix_tokens=24, rows=8)
    assert (cost.prefix_tokens, cost.rows, cost.stop_tokens) == (24, 8, 2)
    assert cost.check_seconds > 0
    assert cost.ratio == cost.check_seconds / cost.reencode_seconds


def test_the_busy_process_is_there_meanwhile_and_ends_also_after_an_error():
    with pytest.raises(ZeroDivisionError), beside_a_busy_process() as busy:
        os.kill(busy, 0)  # raises where there is none
        1 / 0  # noqa: B018
    with pytest.raises(ProcessLookupError):
        os.kill(busy, 0)
