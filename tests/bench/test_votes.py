from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.votes import Borda, InverseEntropy, Majority, ScoreWeighted


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


def test_sums_that_differ_by_rounding_only_are_a_tie():
    assert ScoreWeighted().elect(np.array([0, 0, 0, 1]), np.array([0.1, 0.1, 0.1, 0.3])).tied


def test_inverse_entropy_weights():
    # 1/0.5 + 1/1 = 3 < 1/0.25 = 4
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


@settings(max_examples=60, deadline=None)
@given(
    ballots=st.lists(st.tuples(st.integers(-1, 3), st.integers(1, 6)), min_size=1, max_size=12),
    seed=st.integers(0, 99),
    vote=st.sampled_from([Majority(), ScoreWeighted(), InverseEntropy(), Borda(0.5), Borda(2.0)]),
)
def test_the_order_of_the_paths_does_not_matter(ballots, seed, vote):
    classes = np.array([b[0] for b in ballots])
    evidence = np.array([b[1] / 7 for b in ballots])
    order = np.random.default_rng(seed).permutation(len(ballots))
    outcome = vote.elect(classes, evidence)
    assert vote.elect(classes[order], evidence[order]) == outcome
    assert -1 not in outcome.winners
    answered = set(classes[classes >= 0].tolist())
    assert set(outcome.winners) <= answered
    assert sum(outcome.correctness(c) for c in answered) == pytest.approx(float(bool(answered)))
