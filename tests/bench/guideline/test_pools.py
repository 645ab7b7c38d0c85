from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from prunebench.bench.engines.arithmetic import Arithmetic
from prunebench.bench.evaluation.ledger import entries, generator_token, in_generator_tokens, whole_cost
from prunebench.bench.evaluation.subsampling import Subsamples, subsample_order
from prunebench.bench.guideline.pools import Pools, orders_of, token_cost
from prunebench.bench.guideline.scores import ScoredPaths
from prunebench.bench.policies import KeepAll, Ratio
from prunebench.bench.policies.votes import Majority
from tests.bench.evaluation.tables.test_main import ByIds, record

GENERATOR = np.random.default_rng(3)
DRAWS, SEED, PREFIX = 9, 0, 10


def some_paths(count: int = 12, classes: int = 3) -> ScoredPaths:
    """A token costs 2, the check of a path 1."""
    answers, lengths = GENERATOR.integers(-1, classes, count), GENERATOR.integers(5, 40, count)
    launch = 2.0 * np.minimum(lengths, PREFIX)
    return ScoredPaths(
        "t", "p", lengths, answers, 1, (answers == 1).astype(float), launch, 2.0 * lengths - launch, {"m": 1.0},
        {"m": GENERATOR.normal(size=count)},
    )  # fmt: skip


def pools_of(*problems: ScoredPaths, method: str = "m") -> Pools:
    return Pools(problems, method, orders_of(problems, DRAWS, SEED), token_cost(problems))


@pytest.mark.parametrize("k", [1, 3, 6])
def test_the_vote_is_the_majority_of_the_kept_paths_and_is_paid_for(k):
    """Counted by hand, pool by pool."""
    paths, wanted, whole = some_paths(), [], []
    scores = paths.scores["m"]
    for draw in range(DRAWS):
        pool = subsample_order("t", "p", 12, draw, SEED)[:6]
        kept = pool[np.argsort(-scores[pool], kind="stable")[:k]] if k < 6 else pool
        maj = Majority().elect(paths.answer_class[kept]).correctness(paths.gold_class)
        tokens = sum(min(PREFIX, paths.lengths[row]) for row in pool)
        tokens += sum(max(0, paths.lengths[row] - PREFIX) for row in kept) + (3.0 if k < 6 else 0.0)
        wanted.append((maj, paths.correct[kept].mean(), tokens))
        whole.append(paths.lengths[pool].sum())
    maj, avg, tokens = np.mean(wanted, axis=0)
    (got_maj,), (got_avg,) = pools_of(paths).accuracies(6, k)
    assert (got_maj, got_avg) == (pytest.approx(maj), pytest.approx(avg))
    assert pools_of(paths).costs(6, k) == pytest.approx(tokens * 6 * paths.lengths.mean() / np.mean(whole))


def test_keeping_all_costs_what_complete_paths_cost_whichever_were_drawn():
    problems = some_paths(), some_paths(20)
    np.testing.assert_allclose(pools_of(*problems).costs(5, 5), [5 * paths.lengths.mean() for paths in problems])


def test_paths_without_any_answer_vote_wrong():
    nothing = np.full(12, -1)
    paths = ScoredPaths(**{**vars(some_paths()), "answer_class": nothing, "gold_class": -1, "correct": np.zeros(12)})
    (maj,), (avg,) = pools_of(paths).accuracies(4, 2)
    assert (maj, avg) == (0.0, 0.0)


@dataclass
class Checked(ByIds):
    """Reads two tokens more of every path."""

    def score(self, pool):
        pool.charge(check_tokens=2)
        return super().score(pool)


@pytest.mark.parametrize("arithmetic", [None, Arithmetic(1_000, 2, 16, 64)], ids=["tokens", "flops"])
@pytest.mark.parametrize("gamma", [1.0, 0.25])
def test_pools_costs_and_votes_are_those_of_the_comparison(arithmetic, gamma):
    """Draw by draw, by its replay and its ledger."""
    records = [
        record(problem=name, correct=GENERATOR.integers(0, 2, 12), classes=GENERATOR.integers(0, 3, 12),
               lengths=GENERATOR.integers(11, 60, 12), ids=GENERATOR.permutation(12))
        for name in "abc"
    ]  # fmt: skip
    policy = KeepAll() if gamma == 1 else Ratio(gamma)
    subsamples = Subsamples(records, [ByIds() if gamma == 1 else Checked()], SEED)
    unit, costs, majs = generator_token(records, arithmetic), [], []
    for whole, draws in zip(records, subsamples.replay(policy, 8, DRAWS), strict=True):
        spent = [in_generator_tokens(entries(part, "", [done], arithmetic), [done], unit) for part, done in draws]
        met = np.mean([whole_cost(part, arithmetic) for part, _ in draws])
        costs.append(np.mean(spent) * 8 * whole_cost(whole, arithmetic) / len(whole.pool) / met)
        votes = [Majority().elect(done.answer_class[done.keep]).correctness(part.gold_class) for part, done in draws]
        majs.append(np.mean(votes))
    pools = pools_of(*(ScoredPaths.of(one, {"checked": Checked()}, arithmetic) for one in records), method="checked")
    np.testing.assert_allclose(pools.costs(8, Ratio(gamma).kept(8)), costs)
    np.testing.assert_allclose(pools.accuracies(8, Ratio(gamma).kept(8))[0], majs)
    assert arithmetic is None or pools.token == pytest.approx(unit)


def test_chance_draws_anew_with_every_pool():
    """One lot per path would make a pool's choice the same in every draw: of twelve paths always the same few."""
    problems = [some_paths(40) for _ in range(200)]
    chance = [replace(paths, scores={"random": np.arange(40.0)}, checks={"random": 0.0}) for paths in problems]
    pools = Pools(chance, "random", orders_of(chance, DRAWS, SEED), token_cost(chance))
    _, avg = pools.accuracies(20, 5)
    truth = np.array([paths.correct.mean() for paths in problems])
    assert abs((avg - truth).mean()) < 0.02
    assert np.std(avg - truth) < 0.6 * np.sqrt(np.mean(truth * (1 - truth)) / 5), "the draws average the lots out"
    assert pools.costs(20, 5).mean() < pools.costs(20, 20).mean()
