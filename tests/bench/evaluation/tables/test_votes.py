from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from prunebench.bench.evaluation.tables.votes import vote_rows
from prunebench.bench.policies import TopK
from tests.bench.evaluation.tables.test_main import ByIds, KeepAll, Oracle, candidates_of, record, score_methods


def rows_of(records, methods, policy=TopK(3)):  # noqa: B008 - frozen
    scored = score_methods(records, methods, policy)
    return {
        (row.method, row.voters, row.vote): row
        for row in vote_rows(records, "t", scored, candidates_of(methods, policy))
    }


def voters():
    """Five paths: answers 0 (right) 0 1 1 1; scores 9 2 5 4 1."""
    one = record(correct=(1, 1, 0, 0, 0), classes=[0, 0, 1, 1, 1], ids=[9, 2, 5, 4, 1], lengths=[20] * 5)
    return replace(one, entropy=np.array([0.5, 0.5, 2.0, 2.0, 2.0]))


def test_pruning_and_vote_are_told_apart():
    rows = rows_of([voters()], {"none": KeepAll(), "by-ids": ByIds()})
    assert rows["none", "all", "majority"].accuracy == 0
    # kept are 9, 5 and 4: majority 1 wins (wrong), by score 9 of 18 against 9 ties, by rank sqrt(3) < sqrt(2) + 1
    kept = rows["by-ids", "kept", "majority"]
    assert (kept.accuracy, kept.pruning_gain.mean, kept.vote_gain.mean) == (0, 0, 0)
    weighted = rows["by-ids", "kept", "score-weighted"]
    assert (weighted.accuracy, weighted.vote_gain.mean, weighted.tie_rate) == (50, 50, 100)
    assert rows["by-ids", "kept", "borda"].accuracy == 0
    # by entropy 2 against 0.5 + 0.5
    assert rows["by-ids", "kept", "inverse-entropy"].vote_gain.mean == 100
    # all with their scores: 11 against 10
    assert rows["by-ids", "all", "score-weighted"].accuracy == 100
    assert rows["by-ids", "all", "score-weighted"].pruning_gain.mean == 0
    assert rows["none", "all", "inverse-entropy"].accuracy == 100


def test_both_gains_add_up_to_what_the_method_gains():
    records = [voters(), replace(voters(), problem="p1", correct=np.array([0, 0, 1, 1, 1.0]), gold_class=1)]
    rows = rows_of(records, {"none": KeepAll(), "by-ids": ByIds()}, TopK(2))
    base = rows["none", "all", "majority"].accuracy
    for row in rows.values():
        assert row.accuracy == pytest.approx(base + row.pruning_gain.mean + row.vote_gain.mean)
        assert row.n_problems == 2


def test_the_votes_of_several_trainings_are_their_mean():
    methods = {"none": KeepAll(), "up": ByIds(), "down": ByIds(factor=-1.0)}
    scored = score_methods([voters()], methods, TopK(1))
    alone = {
        (row.method, row.voters, row.vote): row for row in vote_rows([voters()], "t", scored, candidates_of(methods))
    }
    scored.of["both"] = [[*scored.of["up"][0], *scored.of["down"][0]]]
    candidates = candidates_of(methods)
    candidates["both"] = replace(candidates["up"], name="both", members=(candidates["down"].pruner,))
    rows = [row for row in vote_rows([voters()], "t", scored, candidates) if row.method == "both"]
    assert {(row.voters, row.vote) for row in rows} > {("kept", "majority"), ("all", "borda")}
    for row in rows:
        up, down = (alone.get((method, row.voters, row.vote)) for method in ("up", "down"))
        assert row.accuracy == pytest.approx((up.accuracy + down.accuracy) / 2)
    assert alone["up", "kept", "majority"].accuracy != alone["down", "kept", "majority"].accuracy


def test_votes_without_evidence_are_left_out():
    rows = rows_of([replace(voters(), entropy=None)], {"none": KeepAll(), "down": ByIds(factor=-1.0), "best": Oracle()})
    assert {(method, voters, vote) for method, voters, vote in rows} == {
        ("none", "all", "majority"),
        ("down", "kept", "majority"),
        ("down", "kept", "borda"),
        ("down", "all", "borda"),
    }


def test_a_method_that_launches_paths_by_itself_has_no_scores_to_vote_with():
    from prunebench.bench.evaluation.replay import replay
    from prunebench.bench.evaluation.replays import Replays
    from prunebench.bench.policies import EarlyStoppingConsistency

    @dataclass
    class Answers(ByIds):
        pass

    one = voters()
    played = replay(Answers(), EarlyStoppingConsistency(window=2), one.complete, 10)
    methods = {"none": KeepAll(), "esc": Answers()}
    scored = Replays({**score_methods([one], {"none": KeepAll()}, TopK(3)).of, "esc": [[played]]}, {})
    assert {row.method for row in vote_rows([one], "t", scored, candidates_of(methods, TopK(3)))} == {"none"}
