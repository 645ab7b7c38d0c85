from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from methods.base import Quadrant, Setting, Signal
from methods.check import example_pool
from methods.surface.slim_sc import SlimSC, jaccard


def pool_of(*rows):
    return replace(example_pool(len(rows)), signals={Signal.TOKEN_IDS: tuple(np.array(r, np.int64) for r in rows)})


def grams(ids, n):
    return {tuple(int(i) for i in ids[t : t + n]) for t in range(len(ids) - n + 1)}


def slow_jaccard(rows, n):
    sets = [grams(row, n) for row in rows]
    return np.array([[len(a & b) / len(a | b) if a | b else 1.0 for b in sets] for a in sets])


def slow_less_diverse(rows, n):
    """Plain re-computation of every mean over the remaining ones in every round."""
    similarity = slow_jaccard(rows, n)
    alive, scores, round_ = list(range(len(rows))), [float(len(rows))] * len(rows), 0
    while len(alive) > 1:
        pairs = [(a, b) for i, a in enumerate(alive) for b in alive[i + 1 :]]
        first, second = max(pairs, key=lambda pair: (similarity[pair], -pair[0], -pair[1]))
        mean = {a: np.mean([similarity[a, b] for b in alive if b != a]) for a in (first, second)}
        gone = first if mean[first] > mean[second] + 1e-9 else second
        scores[gone] = float(round_)
        alive.remove(gone)
        round_ += 1
    return scores


def test_jaccard_by_hand():
    # 1-grams {1,2,3} and {2,3,4}: 2 of 4. 2-grams {12,23} and {23,34}: 1 of 3. 4-grams: neither has any.
    rows = [np.array([1, 2, 3]), np.array([2, 3, 4])]
    assert jaccard(rows, 1)[0, 1] == 2 / 4
    assert jaccard(rows, 2)[0, 1] == 1 / 3
    assert jaccard(rows, 3)[0, 1] == 0.0
    assert jaccard(rows, 4).tolist() == [[1.0, 1.0], [1.0, 1.0]]


@pytest.mark.parametrize("n", [1, 2, 3, 4])
@pytest.mark.parametrize("top", [6, 151_936])
def test_jaccard_equals_plain_sets(n, top):
    generator = np.random.default_rng(n)
    words = generator.integers(0, top, 6)
    rows = [generator.choice(words, size) for size in (1, 2, 3, 9, 14, 30, 30)]
    assert np.array_equal(jaccard(rows, n), slow_jaccard(rows, n))


def test_the_redundant_member_of_the_nearest_pair_goes_first():
    # Round 0: 0 and 1 are the nearest pair (3 of 5). Both share one of six tokens with 2, but 1 shares 5 with 3 too.
    # Round 1: 2 and 3 (1 of 4); 2 shares 4 with 0 as well, so 2 goes.
    # Round 2: 0 and 3 share nothing; their means tie, and the later one goes. The last one left scores N.
    pool = pool_of([1, 2, 3, 4], [1, 2, 3, 5], [5, 6, 4], [7, 5])
    assert SlimSC(n=1, drop="less-diverse").score(pool).tolist() == [4.0, 0.0, 1.0, 2.0]


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_less_diverse_equals_the_slow_version(n, seed):
    generator = np.random.default_rng(seed)
    pool = pool_of(*(generator.integers(0, 5, size) for size in generator.integers(1, 15, 9)))
    assert SlimSC(n=n, drop="less-diverse").score(pool).tolist() == slow_less_diverse(pool.token_ids, n)


def test_random_drops_either_member_of_the_pair_equally_often():
    pool = pool_of([1, 2, 3], [1, 2, 3], [7, 8, 9])
    first = [int(SlimSC(n=1, seed=seed).score(pool).argmin()) for seed in range(400)]
    assert set(first) == {0, 1}
    assert abs(np.mean(first) - 0.5) < 0.125


def test_random_depends_on_the_problem_and_the_seed_only():
    rows = [[1, 2, 3, i % 2] for i in range(20)]
    scores = SlimSC(seed=1).score(pool_of(*rows))
    assert np.array_equal(scores, SlimSC(seed=1).score(pool_of(*rows)))
    assert not np.array_equal(scores, SlimSC(seed=2).score(pool_of(*rows)))
    assert not np.array_equal(scores, SlimSC(seed=1).score(replace(pool_of(*rows), problem="other")))


def test_one_path_survives():
    assert SlimSC().score(pool_of([1, 2, 3])).tolist() == [1.0]


def test_configurations_and_quadrant():
    found = SlimSC.configurations(Setting(64, 512, 192, 6))
    assert {(one.n, one.drop) for one in found} == {
        (n, drop) for n in (1, 2, 3, 4) for drop in ("random", "less-diverse")
    }
    assert SlimSC.quadrant() is Quadrant.I


def test_it_is_fast():
    generator = np.random.default_rng(0)
    pool = pool_of(*generator.integers(0, 400, (64, 128)))
    spent = []
    for _ in range(7):
        started = time.perf_counter()
        SlimSC(n=3, drop="less-diverse").score(pool)
        spent.append(time.perf_counter() - started)
    assert min(spent) < 0.02
