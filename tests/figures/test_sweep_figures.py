"""What a sweep and its guideline look like."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from prunebench.bench.evaluation.statistics import Interval
from prunebench.bench.guideline.guideline import guideline_of
from prunebench.bench.guideline.sweep import Sweep
from prunebench.figures.budget import ALL, GUIDELINE, HALF, budget, budget_csv, spent
from prunebench.figures.guideline_table import REFUSED, GuidelineTable
from prunebench.figures.law import law, law_csv
from prunebench.figures.retention import retention, retention_csv, retention_points
from tests.figures.readable import assert_readable
from tests.made_up_sweep import BUDGETS, GAMMAS, LENGTHS, PREFIXES, made_up


@pytest.fixture(scope="module")
def sweep() -> Sweep:
    return made_up()


@pytest.fixture(scope="module")
def guideline(sweep):
    return guideline_of(sweep, "stop")


def lines(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines()))


def test_points_pool_the_problems_of_all_tasks(sweep):
    points = retention_points(sweep, "stop")
    assert len(points) == len(PREFIXES) * len(BUDGETS) * len(GAMMAS) == len(lines(retention_csv(sweep, "stop")))
    first = next(p for p in points if (p.prefix, p.budget, p.gamma) == (20, 2048.0, 0.5))
    cells = [c.maj for c in sweep.cells if (c.prefix, c.budget, c.gamma) == (20, 2048.0, 0.5)]
    assert first.maj.mean == pytest.approx(100 * np.mean(cells)) and first.problems == 120


def test_a_budget_that_one_task_could_not_spend_is_no_point(sweep):
    capped = sweep.model_copy(
        update={"cells": [c.model_copy(update={"capped": c.task == "short" and c.budget == 8192}) for c in sweep.cells]}
    )
    assert {point.budget for point in retention_points(capped, "stop")} == {2048.0, 4096.0}
    with pytest.raises(ValueError, match="no budget of the sweep could be spent by 'random'"):
        retention(sweep, "random")


def test_the_best_ratio_of_every_line_is_ringed(sweep):
    figure = retention(sweep, "stop")
    points = retention_points(sweep, "stop")
    for ax, prefix in zip(figure.axes, PREFIXES, strict=True):
        rings = [line for line in ax.lines if line.get_markerfacecolor() == "none"]
        best = [
            max((p for p in points if (p.prefix, p.budget) == (prefix, b)), key=lambda p: p.maj.mean) for b in BUDGETS
        ]
        assert [(ring.get_xdata()[0], ring.get_ydata()[0]) for ring in rings] == [(p.gamma, p.maj.mean) for p in best]
    assert_readable(figure)


def test_the_law_runs_through_its_own_values_and_optima_are_where_they_were_measured(guideline):
    figure = law(guideline)
    assert len(figure.axes) == len(PREFIXES)
    table = lines(law_csv(guideline))
    assert len(table) == len(PREFIXES) * len(BUDGETS) * len(LENGTHS)
    for line, optimum in zip(table, guideline.optima, strict=True):
        inverse = guideline.inverse_gamma("law", optimum.budget, optimum.prefix, optimum.task_length)
        assert float(line["law"]) == pytest.approx(1 / inverse, rel=1e-4)
        assert float(line["as_good_low"]) <= float(line["gamma"]) <= float(line["as_good_high"])
    assert_readable(figure)


def test_the_budget_figure_takes_the_ratio_that_the_guideline_gives(sweep, guideline):
    points = spent(sweep, {"stop": guideline}, 40)
    assert {(p.panel, p.method) for p in points} == {
        (HALF, "stop"), (GUIDELINE, "stop"), (HALF, ALL), (GUIDELINE, ALL)
    }  # fmt: skip
    chosen = []
    for task in LENGTHS:
        wanted = 1 / max(1.0, guideline.inverse_gamma(guideline.best_form, 8192, 40, LENGTHS[task]))
        near = min(GAMMAS, key=lambda gamma: abs(np.log(gamma / wanted)))
        chosen += next(c.maj for c in sweep.cells if (c.task, c.prefix, c.budget, c.gamma) == (task, 40, 8192.0, near))
    (point,) = [p for p in points if (p.panel, p.method, p.budget) == (GUIDELINE, "stop", 8192.0)]
    assert point.maj.mean == pytest.approx(100 * np.mean(chosen))
    assert len(lines(budget_csv(sweep, {"stop": guideline}, 40))) == len(points)
    assert_readable(budget(sweep, {"stop": guideline}, 40, {"stop": "IV"}))
    useless = [one.model_copy(update={"gain": Interval(-1.0, -2.0, 0.5)}) for one in guideline.regrets]
    keeping = spent(sweep, {"stop": guideline.model_copy(update={"regrets": useless})}, 40)
    assert {p.method for p in keeping if p.panel == GUIDELINE} == {ALL}, "its answer is to keep all"
    with pytest.raises(ValueError, match="fewer than two budgets"):
        budget(sweep.model_copy(update={"cells": sweep.cells[:5]}), {}, 20, {})


def test_the_table_spends_the_budget_and_refuses_ratios_above_one(guideline):
    table = GuidelineTable(guideline, 300.0)
    for row, spendable in zip(table.rows(), BUDGETS, strict=True):
        for cell, prefix in zip(row[1:], PREFIXES, strict=True):
            inverse = guideline.inverse_gamma(guideline.best_form, spendable, prefix, 300.0)
            if inverse < 1:
                assert cell == REFUSED
            else:
                n = int(spendable / (prefix + (300 - prefix) / inverse))
                assert cell == f"{n} → {max(1, round(n / inverse))} ({1 / inverse:.2f})"
    assert GuidelineTable(guideline, 30.0).rows()[0][2] == REFUSED  # the prefix is longer than a path
    assert table.markdown().count("\n") == 2 + len(BUDGETS) and len(lines(table.csv())) == len(BUDGETS)
