"""The cost of pruning: sums over phases, means over problems, in units of none."""

from __future__ import annotations

import csv
import math
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunebench.bench.evaluation.ledger import LedgerRow
from prunebench.bench.evaluation.results import Results, rows_csv
from prunebench.figures.overhead import overhead, overhead_rows
from prunebench.figures.paper.marks import SOURCE, published_check_seconds
from prunebench.figures.report.page import ledger_lines
from prunebench.figures.run_folder import RunFolder, Timing
from prunebench.figures.style import cost_axis, new_figure
from tests.figures.readable import assert_readable

LEDGER = [
    LedgerRow("power", problem, method, phase, 10.0, *extra, flops, peak)  # type: ignore[arg-type]
    for problem in ("a", "b")
    for method, phase, extra, flops, peak in (
        ("none", "launch", (0.0, 0.0, 0.0), 4e9, 8e6),
        ("none", "resume", (0.0, 0.0, 0.0), 6e9, 9e6),
        ("stop", "launch", (0.0, 0.0, 0.0), 1e9, 3e6 if problem == "a" else 5e6),
        ("stop", "check", (30.0, 2.0, 4.0 if problem == "a" else 8.0), 1e9, 3e6),
    )
]
TIMINGS = [Timing("power", problem, "stop", 1.0, check, math.nan) for problem, check in (("a", 0.2), ("b", 0.4))]


def test_costs_are_sums_over_phases_and_means_over_problems(results: Results) -> None:
    stop = next(row for row in overhead_rows(results, LEDGER, TIMINGS) if row.method == "stop")
    assert stop.n_problems == 2
    assert stop.check_tokens == pytest.approx(38.0)  # (36 + 40) / 2: re-encoded, probe and check tokens
    assert (stop.flops, stop.flops_percent) == pytest.approx((2e9, 20.0))
    assert stop.peak_kv_bytes == pytest.approx(4e6)  # the highest phase of each problem
    assert stop.check_seconds.mean == pytest.approx(0.3)
    assert math.isnan(stop.check_seconds.low), "two problems give no interval"


def test_the_report_shows_the_same_peak(results: Results) -> None:
    run = cast("RunFolder", SimpleNamespace(ledger=LEDGER, timings=TIMINGS))
    peaks = {line["method"]: line["cells"][4].text for line in ledger_lines(run)}
    assert peaks == {"none": "9", "stop": "4"}, "megabytes: the resumed paths' where they are more than the launched"


@given(st.lists(st.floats(1e-7, 1e6) | st.just(0.0), min_size=1, max_size=20))
def test_a_logarithmic_axis_looks_like_one(values: list[float]) -> None:
    axes = new_figure(1.0).add_subplot()
    cost_axis(axes, values)
    labels = [label for label in (axes.xaxis.get_major_formatter()(x) for x in axes.get_xticks()) if label != "0"]
    between = axes.get_xticks(minor=True)
    low, high = axes.get_xlim()
    assert len(set(labels)) >= 2
    assert sum(low <= place <= high for place in between) >= 8


def test_what_was_not_measured_is_undefined_and_not_zero(results: Results) -> None:
    entropy = next(row for row in overhead_rows(results, LEDGER, TIMINGS) if row.method == "entropy")
    assert entropy.n_problems == 0
    assert all(math.isnan(value) for value in (entropy.check_seconds.mean, entropy.check_tokens, entropy.flops_percent))


def test_published_seconds_stand_in_rows_of_their_own(results: Results) -> None:
    rows = overhead_rows(results, LEDGER, TIMINGS, paper=True)
    published = [row for row in rows if row.source == SOURCE]
    assert [(row.quadrant, row.check_seconds.mean) for row in published] == [("I", 0.38), ("II", 1.13), ("IV", 0.20)]
    assert len(published) == len(published_check_seconds())
    assert all(math.isnan(row.flops) and math.isnan(row.check_tokens) for row in published)
    assert len(list(csv.DictReader(rows_csv(rows).splitlines()))) == len(rows)


@pytest.mark.parametrize("paper", [False, True])
def test_it_is_readable_and_draws_measured_and_published_apart(results: Results, paper: bool) -> None:
    timings = [
        Timing("power", "a", row.method, 1.0, row["check_seconds"].mean, math.nan)
        for row in results.rows
        if row.task == "all"
    ]
    figure = overhead(results, LEDGER, timings, paper)
    assert_readable(figure)
    open_ones = [line for ax in figure.axes for line in ax.get_lines() if line.get_markerfacecolor() == "white"]
    assert len(open_ones) == (3 if paper else 0)
