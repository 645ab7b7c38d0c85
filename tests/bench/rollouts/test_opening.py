from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from prunebench.bench.rollouts.opening import first_problems, most_compared, too_short


@pytest.mark.parametrize(
    ("counts", "n"),
    [
        ([64] * 30 + [3], 64),  # one short problem does not lower N for all
        ([8, 8, 3], 8),
        ([8, 8, 7], 7),  # 21 paths are more than 16
        ([64] * 15 + [32] * 15, 32),  # of equal ones the one with more problems
        ([5], 5),
    ],
)
def test_the_number_of_paths_with_which_the_most_take_part(counts, n):
    assert most_compared(counts) == n


def test_what_is_too_short_is_named_and_left_out():
    lengths = {("t", f"p{i}"): [9] * count for i, count in enumerate([8, 8, 3, 2, 1, 1, 8])}
    store: Any = SimpleNamespace(lengths=lambda: lengths)
    assert too_short(store, ["t"], 8) == "left out, with fewer than 8 paths: t/p2 (3), t/p3 (2), t/p4 (1) and 1 more"
    assert too_short(store, ["t"], 1) == too_short(store, ["u"], 8) == ""
    assert first_problems(store, 2, 8) == [("t", "p0"), ("t", "p1")]
    assert first_problems(store, None, 8) == [("t", "p0"), ("t", "p1"), ("t", "p6")]
