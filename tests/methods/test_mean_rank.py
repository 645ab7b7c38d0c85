from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import rankdata

from prunebench.methods.check import check_pruner, cost_of
from prunebench.methods.confidence.entropy import Entropy
from prunebench.methods.confidence.perplexity import Perplexity
from prunebench.methods.ensembles.mean_rank import MeanRank, ranks
from prunebench.methods.examples import example_dataset, example_pool
from prunebench.methods.judges.text_classifier import TextClassifier
from prunebench.methods.meter import Cost


def test_ranks_are_scipys_average_ranks():
    for seed in range(20):
        scores = np.random.default_rng(seed).integers(0, 5, 9).astype(float)
        np.testing.assert_array_equal(ranks(scores), rankdata(scores) - 1)


def test_the_score_is_the_mean_of_the_members_ranks():
    pool = example_pool()
    ensemble = MeanRank("entropy,perplexity").join([Entropy(), Perplexity()])
    expected = (rankdata(Entropy().score(pool)) + rankdata(Perplexity().score(pool))) / 2 - 1
    np.testing.assert_allclose(ensemble.score(pool), expected)
    assert ensemble.quadrant().value == "mixed"


def test_costs_add_up():
    pool = example_pool()
    judge = TextClassifier(min_df=1).fit(example_dataset(seed=1), example_dataset(3, seed=2))
    ensemble = MeanRank("entropy,text-classifier").join([Entropy(), judge])
    assert cost_of(ensemble, pool) == cost_of(judge, pool)
    twice = MeanRank("text-classifier,text-classifier").join([judge, judge])
    assert cost_of(twice, pool) == cost_of(judge, pool) + cost_of(judge, pool)
    assert cost_of(twice, pool).flops == 2 * (cost_of(judge, pool).flops or 0) > 0
    assert Cost() + Cost(check_tokens=2) == Cost(check_tokens=2)


def test_an_ensemble_without_its_members_says_so():
    with pytest.raises(ValueError, match="no members yet"):
        MeanRank().score(example_pool())
    with pytest.raises(ValueError, match="two members or more"):
        MeanRank("entropy").join([Entropy()])
    assert "members" in (check_pruner(MeanRank()) or "")
