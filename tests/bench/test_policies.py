from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import UserError
from bench.policies import CheckRecord, Ratio, TopK, parse_policy, tied


def record(scores, finished=None):
    n = len(scores)
    return CheckRecord(
        2048, np.array(scores, float), np.zeros(n, bool) if finished is None else np.array(finished), np.full(n, -1)
    )


def kept(policy, scores, finished=None):
    return np.flatnonzero(policy.decide([record(scores, finished)]).keep).tolist()


def test_topk_keeps_the_highest_scores_and_breaks_ties_by_path_index():
    assert kept(TopK(2), [1, 5, 3, 5]) == [1, 3]
    assert kept(TopK(2), [1, 1, 1, 1]) == [0, 1]
    assert kept(TopK(3), [1, 5, 1, 1]) == [0, 1, 2]


def test_one_check_neither_launches_more_nor_stops():
    decision = TopK(1).decide([record([0, 1])])
    assert decision.keep.dtype == bool
    assert (decision.launch_more, decision.stop_all) == (0, False)
    assert TopK(1).checkpoints(2048) == Ratio(0.5).checkpoints(2048) == (2048,)


def test_the_last_check_counts():
    assert np.flatnonzero(TopK(1).decide([record([9, 0]), record([0, 9])]).keep).tolist() == [1]


@pytest.mark.parametrize(("n", "k"), [(64, 8), (4, 1), (3, 1), (20, 2), (28, 4)])
def test_ratio_keeps_the_rounded_share_and_at_least_one(n, k):
    assert len(kept(Ratio(0.125), range(n))) == k == max(1, round(0.125 * n))


@pytest.mark.parametrize(("rule", "expected"), [("rank", [2, 3]), ("keep", [0, 1]), ("drop", [2, 3])])
def test_finished_rules(rule, expected):
    assert kept(TopK(2, rule), [0, 1, 2, 3], [True, True, False, False]) == expected


def test_finished_rules_always_keep_k():
    assert kept(TopK(3, "drop"), [9, 8, 1, 0], [True, True, True, False]) == [0, 1, 3]
    assert kept(TopK(2, "keep"), [9, 8, 1, 0], [False, False, False, True]) == [0, 3]


def test_tied_says_whether_the_index_decided():
    scores = np.array([3.0, 2.0, 2.0, 1.0])
    for k, expected in [(1, False), (2, True), (3, False), (4, False)]:
        assert tied(scores, TopK(k).decide([record(scores)]).keep) is expected


def test_scores_that_are_not_finite_are_refused_with_the_row():
    with pytest.raises(ValueError, match="row 2 is nan"):
        kept(TopK(1), [0, 1, np.nan])
    with pytest.raises(ValueError, match="row 0 is -inf"):
        kept(Ratio(0.5), [-np.inf, 1])


def test_more_than_all_paths_cannot_be_kept():
    with pytest.raises(UserError, match="topk:5 keeps 5 of 4 paths"):
        kept(TopK(5), [0, 1, 2, 3])


@pytest.mark.parametrize("policy", [TopK(8), TopK(1, "keep"), Ratio(0.125), Ratio(1 / 3, "drop"), Ratio(1.0)])
def test_text_and_policy_are_the_same(policy):
    assert parse_policy(str(policy)) == policy


def test_the_text_of_a_policy():
    assert str(TopK(8)) == "topk:8"
    assert str(Ratio(0.125)) == "ratio:0.125"
    assert str(parse_policy("topk:8:drop")) == "topk:8:drop"


@pytest.mark.parametrize(
    "text", ["", "topk", "topk:", "topk:x", "topk:0", "topk:2.5", "ratio:0", "ratio:1.5", "ratio:nan", "ratio:x",
             "best:3", "topk:3:maybe"]
)  # fmt: skip
def test_what_is_no_policy_is_refused_in_a_sentence(text):
    with pytest.raises(UserError, match="policy"):
        parse_policy(text)


@settings(max_examples=60, deadline=None)
@given(
    scores=st.lists(st.integers(-50, 50), min_size=1, max_size=16, unique=True),
    finished=st.integers(0, 2**16 - 1),
    seed=st.integers(0, 99),
    rule=st.sampled_from(["rank", "keep", "drop"]),
    gamma=st.floats(0.01, 1),
)
def test_without_ties_the_order_of_the_paths_does_not_matter(scores, finished, seed, rule, gamma):
    values = np.array(scores, float)
    ended = (finished >> np.arange(len(values))) & 1 == 1
    order = np.random.default_rng(seed).permutation(len(values))
    policy = Ratio(gamma, rule)
    keep = policy.decide([record(values, ended)]).keep
    assert (policy.decide([record(values[order], ended[order])]).keep == keep[order]).all()
    assert keep.sum() == max(1, round(gamma * len(values)))
