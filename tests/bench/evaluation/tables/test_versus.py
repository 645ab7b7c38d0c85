from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from prunebench.bench.errors import UserError
from prunebench.bench.evaluation.candidates import Candidate
from prunebench.bench.evaluation.formats import with_interval
from prunebench.bench.evaluation.rebuild import require_of_results
from prunebench.bench.evaluation.replays import replay_methods
from prunebench.bench.evaluation.results import PairRow, Representative, ResultRow
from prunebench.bench.evaluation.statistics import Interval
from prunebench.bench.evaluation.tables.main import Setting, main_rows
from prunebench.bench.evaluation.tables.representatives import lead
from prunebench.bench.evaluation.tables.versus import deciding_pairs, pairs_of, versus
from prunebench.bench.policies import TopK
from prunebench.bench.policies.adaptive_consistency import AdaptiveConsistency
from prunebench.bench.policies.procedures import PROCEDURES
from prunebench.methods.base import Signal
from tests.bench.evaluation.tables.test_main import ByIds, Chance, Judge, KeepAll, L, candidates_of, many, record


def knowing(records, how_well):
    """The same records, whose first ids tell the outcome so well."""
    random = np.random.default_rng(1)
    told = []
    for one in records:
        ids = tuple(np.array([how_well * right + random.random()]) for right in one.correct)
        told.append(replace(one, pool=one.pool.adding({Signal.TOKEN_IDS: ids})))
    return told


def run_of(records, methods, chosen, procedures=()):
    candidates = candidates_of({"none": KeepAll(), "random": Chance(), **methods})
    candidates |= {name: replace(candidates[name], procedure=PROCEDURES["esc"]) for name in procedures}
    representatives = [
        Representative(quadrant=quadrant, method=name, validation_auroc=auroc, candidates=1)
        for quadrant, name, auroc in chosen
    ]
    return SimpleNamespace(
        replays=replay_methods(records, candidates), records=records, candidates=candidates, folder="run",
        setting=Setting("m", L, 0, TopK(2)), config=SimpleNamespace(seed=0),
        results=SimpleNamespace(representatives=representatives),
    )  # fmt: skip


def held(run, pairs):
    return versus(run.records, run.replays, run.candidates, run.setting, pairs)


def deciding(run):
    return deciding_pairs(run.results.representatives, run.candidates, run.replays)


METHODS = {"good": Judge(), "same": ByIds(factor=2.0), "free": ByIds(), "bad": ByIds(factor=-1.0)}
CHOSEN = [("I", "bad", 0.4), ("II", "good", 0.7), ("III", "free", 0.6)]


def test_what_decides_is_every_pair_of_representatives_and_each_method_against_the_best_free_one():
    run = run_of(many(20), METHODS | {"own": ByIds(factor=3.0), "blind": ByIds(factor=0)}, CHOSEN, ["own"])
    assert deciding(run) == [("bad", "good"), ("bad", "free"), ("good", "free"), ("same", "free")]
    with pytest.raises(UserError, match="no methods were chosen on validation problems; name those to compare"):
        deciding(run_of(many(2), METHODS, []))


def test_verdicts_follow_the_adjusted_tests():
    run = run_of(knowing(many(60), 1.5), METHODS, CHOSEN)
    rows = {(row.method, row.other): row for row in held(run, deciding(run))}
    assert rows["bad", "free"].verdict == "behind" and rows["bad", "free"].p_holm < 0.05
    assert rows["same", "free"].verdict == "no difference on any problem"
    assert {row.p_holm >= row.p for row in rows.values()} == {True}


def row_of(mean, p_holm, p_equal, more=math.nan, n=50):
    interval = Interval(mean, mean - 1, mean + 1)
    return PairRow(
        task="t", method="a", other="b", avg=interval, maj=interval, p=p_holm, p_holm=p_holm, p_equal=p_equal,
        more=more, n_problems=n,
    )  # fmt: skip


def test_equality_is_a_result_and_what_is_open_says_how_many_more():
    assert row_of(0.3, 0.6, 0.01).verdict == "equal within 2 points"
    assert row_of(-1.1, 0.01, 0.01).verdict == "behind, by less than 2 points"
    assert row_of(4.0, 0.2, 0.9, more=1234).verdict == "not established: about 1,200 more problems"
    assert row_of(4.0, 0.2, 0.9, n=7).verdict == "not established: 8 problems are the fewest"


def test_as_many_more_problems_as_are_said_decide_it():
    few = many(40, seed=2)
    run = run_of(knowing(few, 0.05), METHODS, CHOSEN)
    (row,) = held(run, [("free", "random")])
    assert "more problems" in row.verdict and row.more > 0
    larger = many(int(row.more) + 40, seed=2)
    repeated = [replace(larger[i], problem=f"p{i}") for i in range(len(larger))]
    (again,) = held(run_of(knowing(repeated, 0.05), METHODS, CHOSEN), [("free", "random")])
    assert again.more < row.more


@pytest.mark.parametrize("tied", [False, True])
def test_the_best_quadrant_is_the_one_that_is_ahead_of_every_other(tied):
    """``free`` and ``same`` order the paths alike, so that neither can be ahead."""
    chosen = [("I", "bad", 0.4), ("III", "free", 0.7), *([("IV", "same", 0.6)] if tied else [])]
    run = run_of(knowing(many(60), 1.5), METHODS, chosen)
    rows = held(run, pairs_of(run.results.representatives))
    results = SimpleNamespace(
        rows=main_rows(run.records, run.replays, run.candidates, run.setting).rows,
        representatives=run.results.representatives,
        pairs=rows,
    )
    task = results.rows[0].task
    found = lead(results, task)
    assert found.rival.method == ("same" if tied else "bad") and found.established != tied
    difference = gain(results, task, found.leader.method) - gain(results, task, found.rival.method)
    assert found.sign * found.pair.avg.mean == pytest.approx(difference) and difference >= 0
    assert with_interval(found.pair.avg.scaled(found.sign), signed=True) in found.detail
    assert found.headline == f"best quadrant: {'not established' if tied else 'III, established'}"
    assert lead(SimpleNamespace(rows=results.rows, representatives=results.representatives, pairs=[]), task) is None


def gain(results, task, name):
    (row,) = [row for row in results.rows if (row.task, row.method) == (task, name)]
    return row["avg_at_k"].mean


def test_who_stops_once_paths_agree_is_held_by_the_vote():
    """Ending by agreement picks fortunate orders: the mean of what was drawn is above that of all, the vote is not."""
    rng = np.random.default_rng(0)
    records = [record(problem=f"p{i}", correct=rng.random(16) < 0.5, lengths=np.full(16, 20)) for i in range(200)]
    candidates = candidates_of({"none": KeepAll()})
    candidates["stops"] = Candidate("stops", Chance(), AdaptiveConsistency(), procedure=PROCEDURES["esc"])
    run = SimpleNamespace(records=records, candidates=candidates, replays=replay_methods(records, candidates),
                          setting=Setting("m", L, 0, TopK(2)))  # fmt: skip
    (row,) = held(run, [("stops", "none")])
    assert row.by == "maj" and row.verdict.endswith("(by maj@k)")
    assert row.p > 0.05
    assert row.avg.low > 0, "optional stopping flatters the mean of what was drawn"


def test_a_mean_over_no_path_is_as_undefined_as_the_results_say():
    known = {("t", "a"): 40.0, ("t", "b"): math.nan, ("t", "c"): 30.0}
    results = [
        ResultRow.model_construct(task=task, method=name, metrics={"avg_at_k": Interval(value, value, value)})
        for (task, name), value in known.items()
    ]
    written = SimpleNamespace(results=SimpleNamespace(rows=results), folder=Path("run"))
    undefined = row_of(math.nan, math.nan, math.nan).model_copy(update={"other": "b"})
    require_of_results(written, [undefined, row_of(10.0, 0.1, 0.9).model_copy(update={"other": "c"})])
    with pytest.raises(UserError, match=r"a minus c on t is 9\.000 points, and 10\.000 by results\.json"):
        require_of_results(written, [row_of(9.0, 0.1, 0.9).model_copy(update={"other": "c"})])
