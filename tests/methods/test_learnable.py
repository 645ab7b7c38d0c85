"""The two learnable methods of scikit-learn, against independent optimisers of the same objective."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize

from methods.base import NotFittedError, Quadrant, Setting, Signal
from methods.check import example_dataset, example_pool
from methods.judges.text_classifier import TextClassifier
from methods.learned.linear_probe import LinearProbe
from methods.pool import LabelledPool, PrefixDataset, within_problem_auroc


def logistic(features, success, strength):
    """Minimiser of |w|^2 / 2 + strength * soft cross-entropy with a free intercept."""

    def loss(parameters):
        margin = features @ parameters[:-1] + parameters[-1]
        entropy = success * np.logaddexp(0, -margin) + (1 - success) * np.logaddexp(0, margin)
        slope = strength * (1 / (1 + np.exp(-margin)) - success)
        gradient = np.append(parameters[:-1] + features.T @ slope, slope.sum())
        return parameters[:-1] @ parameters[:-1] / 2 + strength * entropy.sum(), gradient

    start = np.zeros(features.shape[1] + 1)
    return minimize(loss, start, jac=True, method="L-BFGS-B", options={"gtol": 1e-9, "ftol": 1e-15}).x


def relabelled(dataset, rule):
    return PrefixDataset(tuple(LabelledPool(one.pool, rule(one.pool), 1) for one in dataset))


# --- linear-probe ---


@pytest.mark.parametrize("centre", [True, False])
def test_the_probe_is_the_minimiser_of_the_soft_cross_entropy(centre):
    train = example_dataset(seed=1)
    probe = LinearProbe(layer=2, C=0.3, centre=centre).fit(train, train)
    states = [one.pool.hidden_state(2).astype(float) for one in train]
    features = np.concatenate([state - state.mean(0) if centre else state for state in states])
    scale = features.std(0)
    weights = logistic(features / scale, train.success, 0.3)
    pool = example_pool(seed=77)
    test = pool.hidden_state(2).astype(float)
    test = (test - test.mean(0) if centre else test) / scale
    assert np.allclose(probe.score(pool), test @ weights[:-1] + weights[-1], atol=2e-3)


def test_the_probe_finds_a_direction_that_only_ranks_within_problems():
    """Every problem shifts all states by a large amount: only the centred features show who is better."""

    def shifted(dataset, seed):
        generator = np.random.default_rng(seed)
        pools = []
        for one in dataset:
            states = one.pool.hidden_state(1)
            label = (states[:, 0] > np.median(states[:, 0])).astype(float)
            signals = {Signal.HIDDEN_STATE: {1: states + generator.normal(0, 20, 6).astype(np.float32)}}
            pools.append(LabelledPool(replace(one.pool, signals=signals), label, 1))
        return PrefixDataset(tuple(pools))

    train, test = shifted(example_dataset(30, seed=1), 1), shifted(example_dataset(10, seed=2), 2)

    def auroc(probe):
        fitted = probe.fit(train, train)
        return within_problem_auroc(test, [fitted.score(one.pool) for one in test])

    assert auroc(LinearProbe()) > 0.9
    assert auroc(LinearProbe(C=0.01)) > auroc(LinearProbe(C=0.01, centre=False))


def test_centred_scores_ignore_what_all_paths_share():
    train = example_dataset(seed=1)
    probe = LinearProbe(layer=3).fit(train, train)
    pool = example_pool()
    moved = replace(pool, signals={Signal.HIDDEN_STATE: {3: pool.hidden_state(3) + np.float32(5)}})
    assert np.allclose(probe.score(pool), probe.score(moved), atol=1e-5)


@pytest.mark.parametrize(("layers", "expected"), [(1, [1]), (6, [1, 2, 3, 4, 5, 6]), (8, list(range(1, 9)))])
def test_probe_configurations_are_the_layers(layers, expected):
    assert [one.layer for one in LinearProbe.configurations(Setting(64, 512, 192, layers))] == expected


def test_probe_configurations_of_a_deep_model_are_spread():
    found = [one.layer for one in LinearProbe.configurations(Setting(64, 512, 192, 36))]
    assert len(found) == 8
    assert found[0] == 1 and found[-1] == 36
    assert max(np.diff(found)) - min(np.diff(found)) <= 1


# --- text-classifier ---


def features_by_hand(texts, terms, idf):
    """Sublinear tf * idf, rows of unit length."""
    rows = np.zeros((len(texts), len(terms)))
    for row, text in zip(rows, texts, strict=True):
        for term in ngrams(text, 2):
            if term in terms:
                row[terms.index(term)] += 1
    rows = np.where(rows > 0, 1 + np.log(np.maximum(rows, 1)), 0) * idf
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def ngrams(text, most):
    words = text.split(" ")
    return [" ".join(words[i : i + n]) for n in range(1, most + 1) for i in range(len(words) - n + 1)]


def test_the_classifier_equals_one_written_by_hand():
    train = example_dataset(seed=1)
    judge = TextClassifier(ngram_max=2, C=0.5, min_df=3).fit(train, train)
    texts = [text for one in train for text in one.pool.text]
    found = [set(ngrams(text, 2)) for text in texts]
    counts = {term: sum(term in own for own in found) for term in set().union(*found)}
    terms = sorted(term for term, count in counts.items() if count >= 3)
    idf = np.array([np.log((1 + len(texts)) / (1 + counts[term])) + 1 for term in terms])
    weights = logistic(features_by_hand(texts, terms, idf), train.success, 0.5)
    pool = example_pool(seed=77)
    by_hand = features_by_hand(pool.text, terms, idf) @ weights[:-1]
    scores = judge.score(pool)
    assert np.allclose(scores - scores[0], by_hand - by_hand[0], atol=2e-3)  # an intercept moves all paths alike


def test_the_classifier_finds_a_telling_token():
    def rule(pool):
        return np.array([float(any(int(t[1:]) % 4 == 0 for t in text.split(" ")[:4])) for text in pool.text])

    train, test = relabelled(example_dataset(60, seed=1), rule), relabelled(example_dataset(10, seed=2), rule)
    judge = TextClassifier(ngram_max=1, C=3.0).fit(train, train)
    assert within_problem_auroc(test, [judge.score(one.pool) for one in test]) > 0.7


def test_the_classifier_splits_on_single_spaces_and_keeps_punctuation():
    pool = example_pool(6)
    texts = ("3 + 4 = 7 .", "3 - 4 = 7 .") * 3
    labelled = LabelledPool(replace(pool, signals={Signal.TEXT: texts}), np.array([1.0, 0.0] * 3), 1)
    judge = TextClassifier(ngram_max=1, min_df=1).fit(PrefixDataset((labelled,)), PrefixDataset(()))
    assert set(judge.vocabulary_) == {"3", "+", "-", "4", "=", "7", "."}
    assert (judge.score(labelled.pool)[::2] > judge.score(labelled.pool)[1::2]).all()


def test_an_external_judge_pays_for_reading():
    pool = example_pool()
    cost = TextClassifier(ngram_max=2).cost(pool)
    assert cost.tokens == cost.reencoded_tokens == pool.lengths.sum()
    assert cost.flops is not None
    assert cost.flops >= 2 * sum(len(set(ngrams(text, 2))) for text in pool.text)


@pytest.mark.parametrize(("kind", "quadrant"), [(TextClassifier, Quadrant.II), (LinearProbe, Quadrant.IV)])
def test_both_save_without_pickle_and_say_when_they_are_not_fitted(kind, quadrant, tmp_path):
    from safetensors import safe_open

    assert kind.quadrant() is quadrant
    for use in (lambda: kind().score(example_pool()), lambda: kind().save(tmp_path / "x")):
        with pytest.raises(NotFittedError, match=f"prunebench train {kind.name}"):
            use()
    train = example_dataset()
    kind().fit(train, train).save(tmp_path / "learned")
    with safe_open(str(tmp_path / "learned"), framework="numpy") as file:
        assert "coefficients" in set(file.keys())


def test_two_fits_give_the_same_scores():
    train, pool = example_dataset(), example_pool(seed=5)
    for kind in (TextClassifier, LinearProbe):
        assert np.array_equal(kind().fit(train, train).score(pool), kind().fit(train, train).score(pool))
