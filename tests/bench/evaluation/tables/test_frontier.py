from __future__ import annotations

import math
from dataclasses import replace

import pytest

from prunebench.bench.evaluation.candidates import Candidate
from prunebench.bench.evaluation.replays import replay_methods
from prunebench.bench.evaluation.tables.frontier import frontier_rows
from prunebench.bench.evaluation.tables.main import Setting, main_rows
from prunebench.bench.policies import EarlyStoppingConsistency, Ratio, TopK
from tests.bench.evaluation.tables.test_main import (
    MODEL,
    ByIds,
    Chance,
    Judge,
    KeepAll,
    L,
    candidates_of,
    many,
    record,
)  # fmt: skip


def rows_of(records, methods, policy=TopK(2), arithmetic=MODEL, **more):  # noqa: B008 - frozen
    candidates = {name: replace(one, policy=more.get(name, one.policy)) for name, one in candidates_of(methods).items()}
    setting = Setting("model", L, 0, policy, arithmetic)
    replays = replay_methods(records, candidates)
    rows = frontier_rows(records, replays, candidates, setting)
    return {(row.method, row.k): row for row in rows}, main_rows(records, replays, candidates, setting)


def named(table, method):
    return next(row for row in table.rows if row.method == method)


METHODS = {"none": KeepAll(), "random": Chance(), "by-ids": ByIds(), "judge": Judge()}


def test_one_problem_by_hand():
    # lengths 5, 20, 30, 40; right: the first and the last; by-ids ranks them in the order of their rows
    rows, _ = rows_of([record()], METHODS)
    launch = 5 + 3 * 10
    assert [rows["by-ids", k].tokens for k in (4, 2, 1)] == [95, launch + 10, launch]
    assert [rows["by-ids", k].avg_at_k for k in (4, 2, 1)] == [50, 50, 100]
    assert [rows["by-ids", k].maj_at_k for k in (4, 2, 1)] == [100, 50, 100]
    assert [rows["judge", k].tokens for k in (4, 2, 1)] == [95 + 10, launch + 10 + 10, launch + 10]
    # a judge's hundred operations are those of five tokens of this generator
    assert rows["judge", 1].cost - rows["by-ids", 1].cost == pytest.approx(5)
    # whole paths: a mean over which ones they are
    assert [rows["none", k].tokens for k in (4, 2, 1)] == [95, 47.5, 23.75]
    assert [rows["none", k].avg_at_k for k in (4, 2, 1)] == [50, 50, 50]
    assert rows["none", 4].maj_at_k == 100 and rows["none", 1].maj_at_k == pytest.approx(50, abs=8)
    assert "random" not in {method for method, _ in rows}


def test_at_the_comparisons_k_it_is_the_main_table():
    records = many(20)
    rows, table = rows_of(records, METHODS)
    for row in table.rows:
        if row.method != "random":
            point = rows[row.method, 16 if row.method == "none" else 2]
            assert point.tokens == pytest.approx(row["tokens"].mean)
            assert point.cost == pytest.approx(row["flops_tokens"].mean)
            assert point.avg_at_k == pytest.approx(row["avg_at_k"].mean)
            assert point.maj_at_k == pytest.approx(row["maj_at_k"].mean)
            assert point.avg_gain.low == pytest.approx(row["delta"].low)


def test_a_gain_is_paired_with_as_many_whole_paths_as_the_same_cost_pays_for():
    records = [record(problem=f"p{i}", correct=(1, 0, 0, i % 2), lengths=[20] * 4) for i in range(12)]
    rows, _ = rows_of(records, METHODS)
    two, whole = rows["by-ids", 2], {k: rows["none", k] for k in (4, 2, 1)}
    assert two.tokens == 60  # between the 40 of two whole paths and the 80 of four
    share = math.log(60 / 40) / math.log(80 / 40)
    expected = two.maj_at_k - (whole[2].maj_at_k + share * (whole[4].maj_at_k - whole[2].maj_at_k))
    assert two.maj_gain_tokens.mean == pytest.approx(expected)
    assert two.maj_gain_tokens.low < expected < two.maj_gain_tokens.high
    assert rows["judge", 4].maj_gain_tokens.mean == 0, "dearer than all paths: held against all of them"
    assert all(point.maj_gain_cost.mean == 0 for point in whole.values())


def test_a_policy_that_checks_once_is_a_curve_whatever_it_keeps():
    rows, table = rows_of(many(8), METHODS, **{"by-ids": Ratio(0.25)})
    assert [k for method, k in rows if method == "by-ids"] == [16, 8, 4, 2, 1]
    assert rows["by-ids", 4].tokens == pytest.approx(named(table, "by-ids")["tokens"].mean)


def test_a_policy_of_its_own_is_one_point_and_an_unknown_cost_undefined():
    records = many(12)
    rows, table = rows_of(records, METHODS, arithmetic=None, **{"by-ids": EarlyStoppingConsistency(window=4)})
    points = [row for (method, _), row in rows.items() if method == "by-ids"]
    assert [point.tokens for point in points] == [pytest.approx(named(table, "by-ids")["tokens"].mean)]
    assert math.isnan(rows["judge", 1].cost)
    assert math.isnan(rows["judge", 1].maj_gain_cost.mean) and not math.isnan(rows["judge", 1].maj_gain_tokens.mean)


def test_without_none_there_is_nothing_to_hold_against():
    candidate = Candidate("by-ids", ByIds(), TopK(2))
    replays = replay_methods([record()], {"by-ids": candidate})
    assert frontier_rows([record()], replays, {"by-ids": candidate}, Setting("model", L, 0, TopK(2), MODEL)) == []
