from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np
import pytest
from scipy.stats import rankdata, spearmanr
from sklearn.metrics import roc_auc_score

from prunebench.bench.evaluation.metrics import auroc, avg_at_k, pass_at_k, ranks, spearman

CORRECT = np.array([1.0, 0.0, 0.0, 1.0])


def test_avg_and_pass_of_the_kept_paths():
    assert avg_at_k(CORRECT, np.array([True, True, True, False])) == pytest.approx(1 / 3)
    assert pass_at_k(CORRECT, np.array([True, True, False, False])) == 1
    assert pass_at_k(CORRECT, np.array([False, True, True, False])) == 0
    assert np.isnan(avg_at_k(CORRECT, np.zeros(4, bool)))
    assert np.isnan(pass_at_k(CORRECT, np.zeros(4, bool)))


@pytest.mark.parametrize(("n", "k"), [(6, 1), (6, 3), (6, 6), (7, 4)])
def test_over_all_subsets_accuracy_is_that_of_the_pool_and_pass_its_closed_form(n, k):
    for right in range(n + 1):
        correct = (np.arange(n) < right).astype(float)
        kept = [np.isin(np.arange(n), paths) for paths in combinations(range(n), k)]
        assert np.mean([avg_at_k(correct, keep) for keep in kept]) == pytest.approx(right / n)
        closed = 1 - comb(n - right, k) / comb(n, k)
        assert np.mean([pass_at_k(correct, keep) for keep in kept]) == pytest.approx(closed)


def test_auroc_by_hand_with_ties_half():
    # pairs (right, wrong): 2>1, 2=2, 0<1, 0<2 -> 1.5 of 4
    assert auroc(np.array([2.0, 1.0, 2.0, 0.0]), CORRECT) == pytest.approx(1.5 / 4)
    assert auroc(np.zeros(4), CORRECT) == 0.5


def test_ranking_measures_agree_with_libraries():
    generator = np.random.default_rng(0)
    for _ in range(20):
        scores = generator.integers(0, 6, 12).astype(float)
        correct = (np.arange(12) < generator.integers(1, 12)).astype(float)
        rates = generator.integers(0, 5, 12) / 4
        assert auroc(scores, correct) == pytest.approx(roc_auc_score(correct, scores))
        assert spearman(scores, rates) == pytest.approx(spearmanr(scores, rates).statistic)


def test_draws_are_averaged():
    draws = np.random.default_rng(1).random((7, 4))
    assert auroc(draws, CORRECT) == pytest.approx(np.mean([auroc(d, CORRECT) for d in draws]))
    rates = np.array([0.1, 0.5, 0.2, 0.9])
    assert spearman(draws, rates) == pytest.approx(np.mean([spearman(d, rates) for d in draws]))


def test_what_is_undefined_is_nan():
    assert np.isnan(auroc(np.arange(4.0), np.ones(4)))
    assert np.isnan(auroc(np.arange(4.0), np.zeros(4)))
    assert np.isnan(spearman(np.ones(4), np.arange(4.0)))
    assert np.isnan(spearman(np.arange(4.0), np.full(4, 0.3)))


@pytest.mark.parametrize("shape", [(1,), (64,), (5, 7), (200, 64), (3, 1), (2, 0)])
def test_ranks_are_scipys(shape):
    generator = np.random.default_rng(0)
    for scores in (generator.standard_normal(shape), generator.integers(0, 3, shape).astype(float), np.zeros(shape)):
        np.testing.assert_array_equal(ranks(scores), rankdata(np.atleast_2d(scores), axis=1))
