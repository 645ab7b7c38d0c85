"""DeepPrune: the judge of pairs against an independent optimiser, the clusters against cases counted by hand."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save_file

from prunebench.methods.base import NotFittedError, Quadrant, Signal
from prunebench.methods.check import check_pruner, cost_of
from prunebench.methods.examples import EXAMPLE_SETTING, example_dataset, example_pool
from prunebench.methods.judges.deepprune import DeepPrune
from prunebench.methods.pool import LabelledPool, PrefixDataset
from tests.methods.test_learnable import features_by_hand, logistic, ngrams


def pool_of(texts, paths=None, **columns):
    pool = replace(example_pool(len(texts)), signals={Signal.TEXT: tuple(texts)}, **columns)
    return pool if paths is None else replace(pool, paths=np.array(paths))


def labelled(texts, final, problem="p", **columns):
    pool = pool_of(texts, problem=problem, **columns)
    return LabelledPool(pool, np.full(len(texts), 0.5), 1, final_class=np.array(final))


def judge_of(folder, words, gap, product, intercept, **settings):
    """A judge with known weights: ``gap`` on every |x - y|, ``product`` on every x * y, all idf 1."""
    count = len(words)
    arrays = {
        "coefficients": np.repeat([gap, product], count).astype(float),
        "intercept": np.array([float(intercept)]),
        "idf": np.ones(count),
    }
    save_file(arrays, str(folder / "known"), metadata={"vocabulary": json.dumps(sorted(words))})
    return DeepPrune(ngram_max=1, **settings).load(folder / "known")


def test_the_judge_is_the_minimiser_of_the_cross_entropy_over_all_pairs_of_a_pool():
    train = PrefixDataset(
        tuple(
            replace(labelled, final_class=np.random.default_rng(i).integers(-1, 2, 7)) for i, labelled in enumerate(
                example_dataset(12, seed=1)
            )
        )
    )  # fmt: skip
    judge = DeepPrune(ngram_max=2, C=0.7, min_df=3, pairs=1000).fit(train, train)
    texts = [text for labelled in train for text in labelled.pool.text]
    terms_of = [set(ngrams(text, 2)) for text in texts]
    counts = {term: sum(term in terms for terms in terms_of) for term in set().union(*terms_of)}
    terms = sorted(term for term, count in counts.items() if count >= 3)
    idf = np.array([np.log((1 + len(texts)) / (1 + counts[term])) + 1 for term in terms])

    def features(pool):
        rows = features_by_hand(pool.text, terms, idf)
        return {(i, j): np.append(abs(rows[i] - rows[j]), rows[i] * rows[j]) for i, j in np.ndindex(7, 7)}

    rows, same = [], []
    for labelled in train:
        of = features(labelled.pool)
        for i, j in itertools.combinations(range(7), 2):
            if labelled.final_class[i] >= 0 and labelled.final_class[j] >= 0:
                rows.append(of[i, j])
                same.append(float(labelled.final_class[i] == labelled.final_class[j]))
    weights = logistic(np.array(rows), np.array(same), 0.7)
    pool = example_pool(seed=77)
    vectors = judge._vectors(pool)
    expected = features(pool)
    for i, j in np.ndindex(7, 7):
        by_hand = 1 / (1 + np.exp(-(expected[i, j] @ weights[:-1] + weights[-1])))
        assert judge._same(vectors)[i, j] == pytest.approx(by_hand, abs=2e-3)


def test_one_of_each_kind_comes_first_and_larger_kinds_before_smaller_ones(tmp_path):
    judge = judge_of(tmp_path, "abc", gap=-10, product=0, intercept=5)
    pool = pool_of(["b", "a", "b", "c", "b", "c"], paths=[9, 4, 2, 7, 5, 1])
    # by path id: c(1) b(2) a(4) b(5) c(7) b(9)
    expected = {1: 2 / 7, 2: 3 / 7, 4: 1 / 7, 5: 3 / 7 - 1, 7: 2 / 7 - 1, 9: 3 / 7 - 2}
    assert judge.score(pool).tolist() == [pytest.approx(expected[path]) for path in pool.paths]
    best = pool.paths[np.argsort(-judge.score(pool))][:3]
    assert best.tolist() == [2, 1, 4]


def test_a_path_is_compared_with_representatives_only(tmp_path):
    judge = judge_of(tmp_path, "abcd", gap=0, product=20, intercept=-5)
    chain = pool_of(["a b", "b c", "c d"])  # neighbours share one of two words: margin 20 * 1/2 - 5
    assert judge.score(chain).tolist() == [pytest.approx(score) for score in (2 / 4, 2 / 4 - 1, 1 / 4)]
    turned = replace(chain, paths=np.array([1, 0, 2]))  # the middle one first: both others are like it
    assert judge.score(turned).tolist() == [pytest.approx(score) for score in (3 / 4 - 1, 3 / 4, 3 / 4 - 2)]


def test_the_first_cluster_that_is_like_a_path_takes_it(tmp_path):
    judge = judge_of(tmp_path, "abcd", gap=0, product=20, intercept=-5)
    pool = pool_of(["a b", "c d", "b c"])  # the last is like both
    assert judge.score(pool).tolist() == [pytest.approx(score) for score in (2 / 4, 1 / 4, 2 / 4 - 1)]


def test_a_probability_at_the_threshold_does_not_join(tmp_path):
    pool = pool_of(["a", "a"])
    for intercept, clusters in ((0.0, 2), (1e-9, 1)):
        judge = judge_of(tmp_path, "a", gap=-1, product=0, intercept=intercept, threshold=0.5)
        assert int((judge.score(pool) > 0).sum()) == clusters


def test_clusters_equal_those_of_a_slow_loop_in_any_order_of_the_rows():
    train = example_dataset(12, seed=1)
    judge = DeepPrune(ngram_max=1, C=10.0, threshold=0.4).fit(train, train)
    pool = example_pool(30, seed=5)
    pool = replace(pool, paths=np.random.default_rng(1).permutation(100)[:30])
    vectors = judge._vectors(pool).toarray()

    def same(x, y):
        features = np.concatenate([np.abs(x - y), x * y])
        return 1 / (1 + np.exp(-(features @ judge.coefficients_ + judge.intercept_[0])))

    clusters: list[list[int]] = []
    for row in sorted(range(30), key=lambda row: pool.paths[row]):
        for members in clusters:
            if same(vectors[members[0]], vectors[row]) > 0.4:
                members.append(row)
                break
        else:
            clusters.append([row])
    assert 1 < len(clusters) < 30, "some join and some do not"
    expected = np.zeros(30)
    for members in clusters:
        for rank, row in enumerate(members):
            expected[row] = -rank + len(members) / 31
    assert np.allclose(judge.score(pool), expected)
    order = np.random.default_rng(2).permutation(30)
    assert np.array_equal(judge.score(pool.take(order)), judge.score(pool)[order])


def test_it_learns_which_beginnings_end_alike():
    def drawn(problem, seed):
        random = np.random.default_rng(seed)
        kinds = random.integers(0, 3, 12)
        texts = [f"plan k{kind} " + " ".join(f"n{n}" for n in random.integers(0, 9, 6)) for kind in kinds]
        return labelled(texts, kinds, problem)

    train = PrefixDataset(tuple(drawn(f"p{i}", i) for i in range(30)))
    judge = DeepPrune(ngram_max=1).fit(train, train)
    test = drawn("test", 99)
    heads = np.flatnonzero(judge.score(test.pool) > 0)
    assert sorted(test.final_class[heads]) == [0, 1, 2], "one representative of each answer"


def test_pairs_with_an_unanswered_path_are_left_out():
    whole = labelled(["a b", "b c", "a c", "x y"], [0, 1, 0, 1])
    partly = labelled(["a b", "b c", "a c", "x y"], [0, -1, 0, 1])
    judge = DeepPrune(min_df=1)
    assert len(judge._pairs_of(whole)[2]) == 6
    first, second, same = judge._pairs_of(partly)
    pairs = set(zip(first.tolist(), second.tolist(), same.tolist(), strict=True))
    assert pairs == {(0, 2, True), (0, 3, False), (2, 3, False)}


def test_the_drawn_pairs_depend_on_path_ids_and_not_on_rows():
    kinds = labelled([f"t{i}" for i in range(20)], np.arange(20) % 3)
    order = np.random.default_rng(0).permutation(20)
    other = replace(kinds, pool=kinds.pool.take(order), final_class=kinds.final_class[order])

    def chosen(some, judge):
        first, second, _ = judge._pairs_of(some)
        paths = some.pool.paths
        return [frozenset(pair) for pair in zip(paths[first].tolist(), paths[second].tolist(), strict=True)]

    judge = DeepPrune(pairs=25)
    assert chosen(kinds, judge) == chosen(other, judge)
    assert len(set(chosen(kinds, judge))) == 25
    assert chosen(kinds, judge) != chosen(kinds, DeepPrune(pairs=25, seed=1))
    assert chosen(kinds, judge) != chosen(replace(kinds, pool=replace(kinds.pool, problem="q")), judge)


def test_without_final_answers_or_with_one_kind_of_pair_it_says_what_to_do():
    known = labelled(["a b", "b c"], [0, 0])
    with pytest.raises(ValueError, match=r"problem 'p' has none \(LabelledPool.final_class is None\)"):
        DeepPrune().fit(PrefixDataset((replace(known, final_class=None),)), PrefixDataset(()))
    with pytest.raises(ValueError, match="1 training pairs, and none of them ends in different answers"):
        DeepPrune().fit(PrefixDataset((known,)), PrefixDataset(()))
    other = replace(known, final_class=np.array([0, 1]))
    with pytest.raises(ValueError, match="none of them ends in the same answer; train on more problems"):
        DeepPrune().fit(PrefixDataset((other,)), PrefixDataset(()))
    for use in (lambda: DeepPrune().score(known.pool), lambda: cost_of(DeepPrune(), known.pool)):
        with pytest.raises(NotFittedError, match="prunebench train deepprune"):
            use()


def test_the_cost_counts_the_comparisons_that_were_made(tmp_path):
    judge = judge_of(tmp_path, "abc", gap=-10, product=0, intercept=5)
    pool = pool_of(["a", "b c", "a", "b c"])
    # compared: 1-0, 2-0, 3-0, 3-1, with 3, 2, 3 and 4 words, each with two weights of two operations
    cost = cost_of(judge, pool)
    assert cost.reencoded_tokens == cost.tokens == pool.lengths.sum()
    assert cost.flops == 2 * 1 * pool.lengths.sum() + 4 * (3 + 2 + 3 + 4)


def test_it_is_type_two_and_every_configuration_conforms():
    assert DeepPrune.quadrant() is Quadrant.II
    configurations = DeepPrune.configurations(EXAMPLE_SETTING)
    assert len({(configuration.threshold, configuration.C) for configuration in configurations}) == 6
    for configuration in configurations[::5]:
        assert check_pruner(configuration) is None
