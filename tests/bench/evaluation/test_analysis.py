from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest

from prunebench.bench.config import RunConfig
from prunebench.bench.evaluation.analysis import analyse, one_check, timings_csv
from prunebench.bench.evaluation.results import ResultRow
from prunebench.bench.evaluation.tables.main import Setting
from prunebench.bench.policies import Funnel, Ratio, Threshold, TopK
from tests.bench.evaluation.tables.test_main import MODEL, ByIds, Chance, KeepAll, candidates_of, many, record


def analysed(records, methods=None, policy=None, n=None, k=2, **settings):
    methods = methods or {"none": KeepAll(), "random": Chance(), "by-ids": ByIds()}
    config = RunConfig(
        tasks=("t",), model="m", n=n or len(records[0].pool), k=k, prefix_tokens=10, problems=len(records),
        temperature=1.0, max_new_tokens=100, **settings,
    )  # fmt: skip
    policy = policy or TopK(k)
    return analyse(
        records, config, candidates_of(methods, policy), Setting("m", 10, 0, one_check(policy, config), MODEL)
    )


def rows_of(rows):
    return {(row.task, row.method): row for row in rows}


def test_both_comparisons_come_from_one_call():
    found = analysed(many(6, n=16))
    assert {row.method for row in found.rows} == {row.method for row in found.equal_cost}
    at_equal_cost = {row.method: row for row in found.equal_cost}
    assert at_equal_cost["none"].n == 4, "a quarter of the stored paths"
    assert at_equal_cost["by-ids"].n > 4, "pruning pays for more paths"
    assert all(row.cost <= row.budget * (1 + 1e-9) for row in found.equal_cost)


def test_a_budget_and_a_number_of_draws_can_be_given():
    found = analysed(many(6, n=16), budget=60.0, draws=3)
    draws = {row.method: row.draws for row in found.equal_cost}
    assert {row.budget for row in found.equal_cost} == {60.0}
    assert draws.pop("none") == draws.pop("random") == 200, "drawn by chance alone"
    assert draws and set(draws.values()) == {3}


def test_the_ledger_holds_every_problem_method_and_phase_and_adds_up_to_the_table():
    records = many(6, n=16)
    found = analysed(records)
    assert len(found.ledger) == 6 * 3 * 3
    for row in found.rows:
        own = [phase.tokens for phase in found.ledger if phase.method == row.method]
        assert sum(own) / 6 == pytest.approx(row["tokens"].mean)
    timed = [tuple(line.split(",")[:3]) for line in timings_csv(found).splitlines()[1:]]
    assert sorted(timed) == sorted((r.task, r.problem, m) for r in records for m in ("none", "random", "by-ids"))


def test_seconds_are_a_file_of_their_own():
    found = analysed([record()])
    text = timings_csv(found).splitlines()
    assert text[0] == "task,problem,method,launch_seconds,check_seconds,resume_seconds"
    assert [line.split(",")[:4] for line in text[1:]] == [["t", "p0", m, "2"] for m in ("none", "random", "by-ids")]
    assert all(line.endswith(",nan") for line in text[1:]), "replay never resumes"


def leaky(count, of=100, **more):
    """``count`` of the ``of`` first paths state an answer already, and score best although they are wrong."""
    stated = np.arange(of) < count
    return record(
        correct=[0] * count + [1] * (of - count), lengths=[20] * of, ids=list(range(of, 0, -1)), leaky=stated, **more
    )


def test_a_table_with_many_leaky_prefixes_is_repeated_without_them():
    found = analysed([leaky(3), leaky(3, problem="p1")])
    assert rows_of(found.rows)["t", "by-ids"]["avg_at_k"].mean == 0
    again = rows_of(found.repeated)
    assert again["t", "by-ids"]["avg_at_k"].mean == 100, "the others alone"
    assert (again["t", "by-ids"].n, again["t", "by-ids"].k) == (97, 2)
    assert again["t", "none"]["finished_share"].mean == again["t", "none"]["leaky_share"].mean == 0
    assert any("repeated without finished and leaky prefixes: t" in note.text for note in found.notes)


def test_what_a_path_was_told_is_not_asked_again_of_those_that_are_left():
    asked = []

    @dataclass
    class Slow(ByIds):
        pointwise = True

        def score(self, pool):
            asked.extend((pool.problem, int(path)) for path in pool.paths)
            pool.charge(check_tokens=pool.lengths)
            return super().score(pool)

    class Relative(Slow):
        pointwise = False

    problems = [leaky(3), leaky(3, problem="p1")]
    once = analysed(problems, {"none": KeepAll(), "by-ids": Slow()}, draws=0)
    assert len(asked) == len(set(asked)) == 200
    again = analysed(problems, {"none": KeepAll(), "by-ids": Relative()}, draws=0)
    assert len(asked) == 200 + 200 + 194, "what looks at the pool looks again"
    (row,), (other,) = ([row for row in found.repeated if row.method == "by-ids"] for found in (once, again))
    assert math.isnan(row["check_seconds"].mean) and math.isnan(other["check_seconds"].mean), "nothing was timed"
    timed = {"check_seconds"}
    assert {n: v for n, v in row.metrics.items() if n not in timed and not math.isnan(v.mean)} == {
        n: v for n, v in other.metrics.items() if n not in timed and not math.isnan(v.mean)
    }


def test_two_percent_are_not_many():
    found = analysed([leaky(2), leaky(2, problem="p1")])
    assert found.repeated == []
    assert not any("repeated" in note.text for note in found.notes)


def test_finished_prefixes_count_as_well_and_a_problem_without_others_is_left_out():
    ended = record(problem="p1", correct=(1, 0, 0, 1), lengths=[5, 5, 5, 20])
    found = analysed([record(), ended])
    (note,) = [note.text for note in found.notes if "repeated" in note.text]
    assert "1 problems have too few others" in note
    assert rows_of(found.repeated)["t", "by-ids"].n_problems == 1


def test_only_the_tables_that_need_it_are_repeated():
    records = [leaky(3, task="a"), leaky(0, task="b", problem="p1"), leaky(0, task="b", problem="p2")]
    found = analysed(records)
    assert {row.task for row in found.repeated} == {"a"}, "1 % over all tasks"
    assert not any("too few others" in note.text for note in found.notes), "the other task is not missed"


def test_the_draw_spread_is_that_of_avg_at_k_over_the_draws():
    records = many(8, n=32, seed=3)
    found = rows_of(analysed(records, n=8, k=2).rows)
    assert found["t", "none"].n == 8
    assert found["t", "none"]["avg_at_k"].mean == pytest.approx(100 * np.mean([r.correct[:8].mean() for r in records]))
    # mean of 8 of 32 without replacement: s^2 / 8 * (1 - 8 / 32) per problem
    variance = np.mean([np.var(r.correct, ddof=1) / 8 * (1 - 8 / 32) for r in records]) / 8
    assert found["t", "none"]["draw_spread"].mean == pytest.approx(100 * math.sqrt(variance), rel=0.5)
    assert found["t", "by-ids"]["draw_spread"].mean > 0


def test_with_fewer_than_four_times_the_paths_there_is_no_draw_spread():
    rows = analysed(many(8, n=31, seed=3), n=8).rows
    assert all(math.isnan(row["draw_spread"].mean) for row in rows)


@pytest.mark.parametrize(
    ("policy", "at_equal_cost"),
    [
        (Ratio(0.25), "ratio:0.25"),
        (TopK(2, "drop"), "ratio:0.125:drop"),
        (Threshold(3.0), "threshold:3.0"),
        (Funnel(((16, 10), (8, 15)), 4), "funnel:"),
    ],
)
def test_every_policy_is_scaled_to_the_paths_that_the_budget_pays_for(policy, at_equal_cost):
    records = [replace(one, elsewhere=lambda position, one=one: replace(one.pool, position=position))
               for one in many(4, n=16)]  # fmt: skip
    found = analysed(records, policy=policy)
    assert {row.method for row in found.equal_cost} == {"none", "random", "by-ids"}
    rows = {row.method: row for row in found.equal_cost}
    assert rows["by-ids"].policy.startswith(at_equal_cost) and rows["by-ids"].cost <= rows["by-ids"].budget * (1 + 1e-9)


def test_scores_that_claim_to_be_probabilities_are_held_to_it():
    @dataclass
    class Claims(ByIds):
        probability: ClassVar[bool] = True

        def score(self, pool):
            return np.where(np.array([ids[0] for ids in pool.token_ids]) >= 2, 0.8, 0.2)

    found = analysed([record(correct=(1, 0, 0, 0), ids=[3, 2, 1, 0])], {"none": KeepAll(), "claims": Claims()})
    (row,) = found.calibration
    # 0.8 against 1 of 2, 0.2 against 0 of 2
    assert (row.method, row.truth) == ("claims", "outcome")
    assert row.ece == pytest.approx((0.3 + 0.2) / 2)
    assert row.brier == pytest.approx((0.04 + 0.64 + 0.04 + 0.04) / 4)
    labelled = replace(record(correct=(1, 0, 0, 0), ids=[3, 2, 1, 0]), halves=np.array([[0.8, 0.8, 0.2, 0.2]] * 2))
    (row,) = analysed([labelled], {"none": KeepAll(), "claims": Claims()}).calibration
    assert row.truth == "potential" and row.ece == row.brier == pytest.approx(0)


def test_normalised_is_0_for_chance_and_1_for_the_oracle():
    records = many(30, n=16)
    best = {r.problem: r.correct for r in records}

    @dataclass
    class Knows(ByIds):
        def score(self, pool):
            return best[pool.problem][pool.paths]

    rows = rows_of(analysed(records, {"none": KeepAll(), "random": Chance(), "knows": Knows()}, k=4).rows)
    assert rows["t", "knows"]["normalised"].mean == pytest.approx(100)
    assert rows["t", "none"]["normalised"].mean == 0
    assert abs(rows["t", "random"]["normalised"].mean) < 2
    assert isinstance(rows["t", "knows"], ResultRow)
