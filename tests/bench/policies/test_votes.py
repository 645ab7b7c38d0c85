from __future__ import annotations

from itertools import combinations, product
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prunebench.bench.policies.votes import Borda, InverseEntropy, Majority, ScoreWeighted


def test_majority_ignores_missing_answers():
    outcome = Majority().elect(np.array([-1, -1, -1, 2, 2, 0]))
    assert outcome.winners == (2,)
    assert not outcome.tied
    assert outcome.correctness(2) == 1
    assert outcome.correctness(0) == 0


def test_a_tie_counts_its_expected_value():
    outcome = Majority().elect(np.array([0, 1, 2, 2, 0, 1]))
    assert outcome.tied
    assert outcome.correctness(1) == pytest.approx(1 / 3)
    assert outcome.correctness(5) == 0


def test_without_answers_nobody_wins():
    outcome = Majority().elect(np.array([-1, -1]))
    assert outcome.winners == ()
    assert not outcome.tied
    assert outcome.correctness(-1) == 0


def test_no_gold_class_is_never_correct():
    assert Majority().elect(np.array([-1, 0, 0])).correctness(-1) == 0


def test_score_weighted_lets_one_sure_path_outvote_two():
    classes = np.array([0, 0, 1])
    assert ScoreWeighted().elect(classes, np.array([0.2, 0.3, 0.6])).winners == (1,)
    assert ScoreWeighted().elect(classes, np.array([0.3, 0.3, 0.6])).winners == (0, 1)


def test_scores_that_are_all_zero_prefer_no_path():
    """What reads no prefix says 0 of every path: its vote is the majority's, not one among all answers by chance."""
    assert ScoreWeighted().elect(np.array([0, 1, 0, 2]), np.zeros(4)).winners == (0,)
    right, tied = ScoreWeighted().correctness(
        np.array([[0, 1, 0, 2]]), np.ones((1, 4), bool), 0, evidence=np.zeros((1, 4))
    )
    assert right.tolist() == [1.0] and tied.tolist() == [False]


def test_sums_that_differ_by_rounding_only_are_a_tie():
    assert ScoreWeighted().elect(np.array([0, 0, 0, 1]), np.array([0.1, 0.1, 0.1, 0.3])).tied


def test_inverse_entropy_weights():
    np.testing.assert_allclose(InverseEntropy().weights(np.array([0.5, 1.0, 0.25])), [2, 1, 4])
    # 2 + 1 < 4
    assert InverseEntropy().elect(np.array([0, 0, 1]), np.array([0.5, 1.0, 0.25])).winners == (1,)
    assert np.isfinite(InverseEntropy().weights(np.zeros(2))).all()


@pytest.mark.parametrize(("p", "winners"), [(0.0, (1,)), (1.0, (0, 1)), (2.0, (0,))])
def test_borda_gives_n_minus_rank_to_the_power_p(p, winners):
    # best path (weight 3^p) says 0, the two others (2^p + 1^p) say 1
    assert Borda(p).elect(np.array([0, 1, 1]), np.array([9.0, 5.0, 1.0])).winners == winners


def test_borda_shares_the_weight_of_equal_scores():
    np.testing.assert_allclose(Borda(1).weights(np.array([1.0, 7.0, 1.0])), [1.5, 3.0, 1.5])


@pytest.mark.parametrize("vote", [ScoreWeighted(), InverseEntropy(), Borda(0.5)])
def test_evidence_is_checked(vote):
    classes = np.array([0, 1])
    with pytest.raises(ValueError, match="needs evidence"):
        vote.elect(classes)
    with pytest.raises(ValueError, match="row 1 is not finite"):
        vote.elect(classes, np.array([1.0, np.nan]))
    with pytest.raises(ValueError, match="evidence"):
        vote.elect(classes, np.array([1.0]))


def test_negative_weights_are_refused_with_the_row():
    with pytest.raises(ValueError, match="row 1 has a negative score"):
        ScoreWeighted().elect(np.array([0, 1]), np.array([1.0, -1.0]))


BALLOTS = st.lists(st.tuples(st.integers(-1, 3), st.integers(1, 6)), min_size=1, max_size=12)
VOTES = st.sampled_from([Majority(), ScoreWeighted(), InverseEntropy(), Borda(0.5), Borda(2.0)])


def columns(ballots):
    """Classes and evidence; sevenths, so that sums differ by rounding in another order."""
    return np.array([b[0] for b in ballots]), np.array([b[1] / 7 for b in ballots])


@settings(max_examples=60, deadline=None)
@given(ballots=BALLOTS, seed=st.integers(0, 99), vote=VOTES)
def test_the_order_of_the_paths_does_not_matter(ballots, seed, vote):
    classes, evidence = columns(ballots)
    order = np.random.default_rng(seed).permutation(len(ballots))
    outcome = vote.elect(classes, evidence)
    assert vote.elect(classes[order], evidence[order]) == outcome
    assert -1 not in outcome.winners
    answered = set(classes[classes >= 0].tolist())
    assert set(outcome.winners) <= answered
    assert sum(outcome.correctness(c) for c in answered) == pytest.approx(float(bool(answered)))


@settings(max_examples=100, deadline=None)
@given(ballots=BALLOTS, names=st.permutations([0, 1, 2, 3, 40]), vote=VOTES)
def test_the_names_of_the_classes_do_not_matter(ballots, names, vote):
    classes, evidence = columns(ballots)
    renamed = np.array([-1 if c < 0 else names[c] for c in classes])
    expected = tuple(sorted(names[c] for c in vote.elect(classes, evidence).winners))
    assert vote.elect(renamed, evidence).winners == expected


@settings(max_examples=100, deadline=None)
@given(ballots=BALLOTS, vote=VOTES)
def test_expected_correctness_sums_to_one_when_somebody_answers(ballots, vote):
    classes, evidence = columns(ballots)
    outcome = vote.elect(classes, evidence)
    shares = [outcome.correctness(c) for c in range(-1, 5)]
    assert sum(shares) == pytest.approx(1.0 if (classes >= 0).any() else 0.0)
    assert len({share for share in shares if share}) <= 1, "tied classes share evenly"


@settings(max_examples=100, deadline=None)
@given(ballots=BALLOTS, path=st.integers(0, 11), more=st.integers(1, 6), vote=VOTES)
def test_a_winner_still_wins_when_one_of_its_paths_has_better_evidence(ballots, path, more, vote):
    classes, evidence = columns(ballots)
    winners = vote.elect(classes, evidence).winners
    path %= len(classes)
    better = evidence.copy()
    better[path] = evidence[path] / (1 + more) if isinstance(vote, InverseEntropy) else evidence[path] + more / 7
    if classes[path] in winners:
        after = vote.elect(classes, better).winners
        assert classes[path] in after
        assert set(after) <= set(winners)


@settings(max_examples=100, deadline=None)
@given(
    ballots=BALLOTS,
    evidence_of_new=st.integers(1, 6),
    vote=st.sampled_from([Majority(), ScoreWeighted(), InverseEntropy()]),
)
def test_a_further_path_with_a_winning_answer_makes_it_the_only_winner(ballots, evidence_of_new, vote):
    classes, evidence = columns(ballots)
    for winner in vote.elect(classes, evidence).winners:
        assert vote.elect(np.append(classes, winner), np.append(evidence, evidence_of_new / 7)).winners == (winner,)


@settings(max_examples=100, deadline=None)
@given(ballots=BALLOTS, p=st.sampled_from([0.0, 0.5, 1.0, 2.0]))
def test_a_further_best_path_with_a_winning_answer_makes_it_the_only_winner_of_borda(ballots, p):
    classes, evidence = columns(ballots)
    for winner in Borda(p).elect(classes, evidence).winners:
        assert Borda(p).elect(np.append(classes, winner), np.append(evidence, 7.0)).winners == (winner,)


def test_a_further_worst_path_can_cost_its_class_the_vote_of_borda():
    # best first, with p = 1: 11 for class 0, 4 + 3 + 2 + 1 = 10 for class 1
    classes, scores = np.array([0] + [-1] * 6 + [1] * 4), np.arange(11.0, 0, -1)
    assert Borda(1).elect(classes, scores).winners == (0,)
    # one more for class 0 behind them lifts each by 1: 12 + 1 = 13 and 5 + 4 + 3 + 2 = 14
    assert Borda(1).elect(np.append(classes, 0), np.append(scores, 0.5)).winners == (1,)


@settings(max_examples=100, deadline=None)
@given(ballots=BALLOTS, weight=st.integers(1, 6))
def test_votes_of_equal_weight_are_the_majority(ballots, weight):
    classes, evidence = columns(ballots)
    majority = Majority().elect(classes)
    equal = np.full(len(classes), weight / 7)
    assert Majority().elect(classes, evidence) == majority
    assert Borda(0).elect(classes, evidence) == majority
    for vote in (ScoreWeighted(), InverseEntropy(), Borda(0.5), Borda(2.0)):
        assert vote.elect(classes, equal) == majority


@pytest.mark.parametrize(("n", "k"), [(8, 3), (8, 4), (9, 1), (7, 7)])
def test_the_majority_of_k_drawn_from_n_is_hypergeometric(n, k):
    for right in range(n + 1):
        classes = np.where(np.arange(n) < right, 0, 1)
        votes = [Majority().elect(classes[list(paths)]).correctness(0) for paths in combinations(range(n), k)]
        ways = [comb(right, hits) * comb(n - right, k - hits) for hits in range(k + 1)]
        won = sum(way * (1.0 if 2 * hits > k else 0.5 if 2 * hits == k else 0.0) for hits, way in enumerate(ways))
        assert np.mean(votes) == pytest.approx(won / comb(n, k))


@pytest.mark.parametrize("k", [1, 4, 5, 8])
def test_the_majority_of_k_independent_paths_is_binomial(k):
    rate = 0.3
    expected = 0.0
    for pattern in product([0, 1], repeat=k):
        likelihood = np.prod([1 - rate if c else rate for c in pattern])
        expected += likelihood * Majority().elect(np.array(pattern)).correctness(0)
    chances = [comb(k, hits) * rate**hits * (1 - rate) ** (k - hits) for hits in range(k + 1)]
    won = sum(c * (1.0 if 2 * hits > k else 0.5 if 2 * hits == k else 0.0) for hits, c in enumerate(chances))
    assert expected == pytest.approx(won)
