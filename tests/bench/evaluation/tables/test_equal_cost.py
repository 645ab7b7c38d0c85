from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import combinations
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunebench.bench.evaluation.replay import check
from prunebench.bench.evaluation.subsampling import ScoreCache, Subsamples, subsample_order, without_states
from prunebench.bench.evaluation.tables.equal_cost import Budget, at_equal_cost, default_budget, largest_affordable
from prunebench.bench.policies import Ratio
from prunebench.bench.policies.votes import Majority
from prunebench.methods.base import Signal
from prunebench.methods.ensembles.mean_rank import MeanRank
from prunebench.methods.meter import Cost
from tests.bench.evaluation.tables.test_main import MODEL, ByIds, Chance, KeepAll, candidates_of, many, record


@given(st.lists(st.floats(0, 9), min_size=1, max_size=40), st.floats(0, 200))
def test_the_search_finds_what_trying_all_would(steps, budget):
    costs = np.cumsum(steps)
    expected = int((costs <= budget * (1 + 1e-9)).sum())
    assert largest_affordable(lambda n: float(costs[n - 1]), budget, len(costs)) == expected


def test_nearly_proportional_costs_are_asked_seldom():
    asked = []

    def cost(n):
        asked.append(n)
        return 20.0 * n + 3 * (n % 8)

    assert largest_affordable(cost, 700, 64, first=1280.0) == 34
    assert len(asked) <= 4


def test_an_unknown_cost_pays_for_nothing():
    assert largest_affordable(lambda n: math.nan, 100, 8) == 0


def test_draws_are_seeded_nested_and_the_same_for_every_method():
    whole = record()
    assert subsample_order("t", "p0", 4, 0, 0).tolist() == subsample_order("t", "p0", 4, 0, 0).tolist()
    assert sorted(subsample_order("t", "p0", 4, 3, 0).tolist()) == [0, 1, 2, 3]
    orders = {
        tuple(subsample_order("t", p, 4, draw, seed)) for p in ("p0", "p1") for draw in range(4) for seed in (0, 1)
    }
    assert len(orders) > 8, "problem, draw and seed count"
    seen = []

    @dataclass
    class Spy(ByIds):
        def score(self, pool):
            seen.append(pool.paths.tolist())
            return super().score(pool)

    for count in (2, 3):
        Subsamples([whole], [Spy()], seed=0).replay(Ratio(0.5), count, 2)
    assert seen[0] == seen[2][:2] and seen[1] == seen[3][:2]


@dataclass
class Pointwise(ByIds):
    name = "pointwise"
    pointwise: ClassVar[bool] = True
    scored: ClassVar[list] = []

    def score(self, pool):
        self.scored.append(pool.paths.tolist())
        return super().score(pool)


@dataclass
class Trained(Pointwise):
    """The same with other weights."""

    def score(self, pool):
        return -super().score(pool)


def test_a_pointwise_pruner_scores_each_path_once_and_the_same():
    whole = record(ids=[3, 9, 4, 7])
    Pointwise.scored.clear()
    memories = ScoreCache()
    remembering = memories.remembering(Pointwise())
    assert remembering.score(whole.pool.take([2, 0])).tolist() == [4, 3]
    assert remembering.score(whole.pool.take([1, 0, 2])).tolist() == [9, 3, 4]
    assert Pointwise.scored == [[2, 0], [1]]
    assert Pointwise().score(whole.pool).tolist() == [3, 9, 4, 7], "another one is left as it was"
    # an equal one shares the memory, also as a member of an ensemble; one of other hyper-parameters does not
    Pointwise.scored.clear()
    ensemble = memories.remembering(MeanRank(members="a,b").join([Pointwise(), Pointwise(factor=-1.0)]))
    assert ensemble.score(whole.pool.take([0, 1])).tolist() == [0.5, 0.5]
    assert Pointwise.scored == [[0, 1]]


def test_trainings_of_one_method_remember_apart():
    whole = record(ids=[3, 9, 4, 7])
    memories = ScoreCache()
    first, second = memories.remembering(Pointwise(), 0), memories.remembering(Trained(), 1)
    assert Trained().hyperparameters() == Pointwise().hyperparameters()
    assert first.score(whole.pool).tolist() == [3, 9, 4, 7] and second.score(whole.pool).tolist() == [-3, -9, -4, -7]


def test_at_equal_cost_a_method_is_the_mean_of_its_trainings():
    records = [even(), even("p1")]
    methods = {"none": KeepAll(), "by-ids": ByIds(), "down": ByIds(factor=-1.0)}
    alone = equal_cost(records, methods, budget=80, draws=2)
    both = equal_cost(records, methods, budget=80, draws=2, trainings={"by-ids": [methods["by-ids"], methods["down"]]})
    assert alone["by-ids"].avg_at_k != alone["down"].avg_at_k
    assert both["by-ids"].avg_at_k == pytest.approx((alone["by-ids"].avg_at_k + alone["down"].avg_at_k) / 2)
    assert both["by-ids"].draws == alone["by-ids"].draws == 2 and both["by-ids"].k == alone["by-ids"].k


def test_what_is_remembered_is_charged_as_if_it_were_scored_anew():
    whole = record(ids=[3, 9, 4, 7])

    class Judged(ByIds):
        """Reads every distinct text once, and asks 3 tokens of every path."""

        name = "judged"
        pointwise: ClassVar[bool] = True

        def score(self, pool):
            texts = [str(path % 2) for path in pool.paths]
            tokens = 10 * (1 + pool.paths % 2)
            pool.charge(reencoded_tokens=tokens, flops=2.0 * tokens, model_bytes=7, read=texts)
            pool.charge(check_tokens=3)
            return super().score(pool)

    memories = ScoreCache()
    remembering = memories.remembering(Judged())
    pair = MeanRank(members="a,b").join([Judged(), Judged()])
    both = memories.remembering(pair)
    for rows in ([2, 0], [1, 0, 2], [3], [3, 1], [0, 1, 2, 3]):
        pool = whole.pool.take(rows)
        assert check(remembering, pool).cost == check(Judged(), pool).cost
        assert check(both, pool).cost == check(pair, pool).cost
    assert check(remembering, pool).cost == Cost(30, 0, 12, 60.0, 12, 7)
    assert check(both, pool).cost == Cost(60, 0, 24, 120.0, 24, 7)


def test_a_pruner_that_looks_at_the_pool_scores_every_pool_anew():
    pruner = ScoreCache().remembering(ByIds())
    assert "score" not in vars(pruner)


def test_pools_at_other_checkpoints_are_built_once_and_hold_no_states_of_every_token():
    built = []
    whole = record()

    def elsewhere(position):
        built.append(position)
        return replace(whole.pool, position=position, signals={**whole.pool.signals, Signal.STATES: {0: ()}})

    first, second = without_states(
        [replace(whole, elsewhere=elsewhere), replace(whole, problem="p1", elsewhere=elsewhere)]
    )
    for light in (first, second, first, second):
        pool = light.at(20)
        assert pool.position == 20 and pool.has(Signal.TOKEN_IDS) and not pool.has(Signal.STATES)
    assert built == [20, 20], "once per problem"
    assert first.at(10) is first.pool
    assert first.take([2, 0]).at(20).paths.tolist() == [2, 0]


def equal_cost(records, methods, budget, draws=1, policies=None, trainings={}, **more):  # noqa: B006
    policies = policies or {n: (lambda n: Ratio(1.0)) if n == "none" else (lambda n: Ratio(0.5)) for n in methods}
    subsamples = {name: Subsamples(records, trainings.get(name, [pruner]), 0) for name, pruner in methods.items()}
    budget = Budget(budget, draws, 0, MODEL)
    rows = at_equal_cost(records, "t", candidates_of(methods), policies, subsamples, budget, **more)
    return {row.method: row for row in rows}


@dataclass
class Reads(ByIds):
    """Reads 5 tokens per path."""

    def score(self, pool):
        pool.charge(check_tokens=5)
        return super().score(pool)


def even(problem="p0", n=16, right=4):
    """All paths take 20 tokens; the first ones are right, and they alone score high."""
    correct = [1] * right + [0] * (n - right)
    return record(problem=problem, correct=correct, lengths=[20] * n, ids=list(range(n, 0, -1)))


def test_each_method_gets_the_paths_that_the_budget_pays_for():
    records = [even(), even("p1")]
    methods = {"none": KeepAll(), "by-ids": ByIds(), "reads": Reads()}
    rows = equal_cost(records, methods, budget=80)
    assert rows["none"].n == 4 and rows["none"].cost == pytest.approx(80)
    # n prefixes of 10 tokens, then half of the paths (2 of 5, 3 of 6) take 10 more: 70, then 90
    assert rows["by-ids"].n == 5 and rows["by-ids"].k == 2 and rows["by-ids"].cost == pytest.approx(70)
    # 5 more per path: 4 paths cost 40 + 20 + 20, 5 cost 50 + 20 + 25
    assert rows["reads"].n == 4 and rows["reads"].cost == pytest.approx(80)
    assert not any(row.capped for row in rows.values())
    assert {row.budget for row in rows.values()} == {80}
    assert equal_cost(records, methods, budget=10_000)["by-ids"].capped


def test_what_cannot_pay_for_one_path_has_no_row():
    rows = equal_cost([even()], {"none": KeepAll(), "reads": Reads()}, budget=22)
    assert set(rows) == {"none"}, "one path costs 20 + 5"
    assert equal_cost([even()], {"none": KeepAll()}, budget=5) == {}


def test_none_at_the_default_budget_has_a_quarter_of_the_paths_whatever_their_lengths():
    records = many(12, n=16)
    records = [record(problem=r.problem, correct=r.correct, lengths=11 + 7 * np.arange(16)) for r in records]
    budget = default_budget(records)
    assert budget == pytest.approx(4 * np.mean(11 + 7 * np.arange(16)))
    for draws in (1, 3):
        assert equal_cost(records, {"none": KeepAll()}, budget, draws=draws)["none"].n == 4


def test_the_vote_is_that_of_the_drawn_pools():
    records = [even(right=8), even("p1", right=8)]
    rows = equal_cost(records, {"none": KeepAll(), "by-ids": ByIds()}, budget=80, draws=400)
    # wrong answers differ (one class per path); 4 of 16: a right one wins with two votes or shares the first place
    expected = sum(
        math.comb(8, right) * math.comb(8, 4 - right) / math.comb(16, 4) * (1 if right >= 2 else right / 4)
        for right in range(5)
    )
    assert rows["none"].maj_at_k.mean == pytest.approx(100 * expected, abs=4)
    assert rows["none"].maj_delta.mean == 0
    assert rows["by-ids"].maj_delta.mean == pytest.approx(rows["by-ids"].maj_at_k.mean - rows["none"].maj_at_k.mean)
    assert rows["by-ids"].maj_at_k.mean > rows["none"].maj_at_k.mean, "it keeps the right ones"


def test_controls_have_what_all_pools_of_few_stored_paths_would_give():
    """Told pool by pool: keeping all 4 of 16 paths, and 2 of 4 by chance, which are any 2 of the 16."""
    generator = np.random.default_rng(0)
    rates = generator.beta(0.6, 0.8, 24)
    correct = [(generator.random(16) < rate).astype(int) for rate in rates]
    classes = [np.where(right, 0, generator.integers(1, 4, 16)) for right in correct]
    records = [
        record(problem=f"p{i}", correct=right, classes=of, lengths=[20] * 16)
        for i, (right, of) in enumerate(zip(correct, classes, strict=True))
    ]

    def expected(size):
        return 100 * np.mean(
            [
                np.mean([Majority().elect(of[list(pool)]).correctness(0) for pool in combinations(range(16), size)])
                for of in classes
            ]
        )

    policies = {"none": lambda n: Ratio(1.0), "random": lambda n: Ratio(0.5)}
    rows = equal_cost(records, {"none": KeepAll(), "random": Chance()}, 80, draws=4, policies=policies)
    assert rows["none"].n == 4 and rows["random"].k == 2
    assert rows["none"].draws == rows["random"].draws == 200
    mean = 100 * np.mean(correct)
    assert rows["none"].avg_at_k == pytest.approx(mean), "every path stands in as many pools"
    assert rows["random"].avg_at_k == pytest.approx(mean, abs=1)
    assert rows["none"].maj_at_k.mean == pytest.approx(expected(4), abs=1)
    assert rows["random"].maj_at_k.mean == pytest.approx(expected(2), abs=1)


@pytest.mark.parametrize(("paths", "size", "draws"), [(16, 4, 4), (16, 8, 8), (64, 16, 20), (18, 5, 4), (3, 1, 4)])
def test_draws_hold_every_path_about_equally_often(paths, size, draws):
    pools = [subsample_order("t", "p", paths, draw, 0)[:size] for draw in range(draws)]
    times = np.bincount(np.concatenate(pools), minlength=paths)
    assert times.sum() == size * draws
    assert np.ptp(times) <= (0 if size * 4 % paths == 0 else draws // 4)


def test_holm_runs_over_the_methods_and_not_the_controls():
    methods = {"none": KeepAll(), "random": Chance(), "up": ByIds(), "down": ByIds(factor=-1.0)}
    rows = equal_cost(many(12), methods, budget=100, draws=2)
    assert math.isnan(rows["random"].p_holm)
    p = sorted(rows[name].p_value for name in ("up", "down"))
    assert sorted(rows[name].p_holm for name in ("up", "down")) == pytest.approx(
        [min(1, 2 * p[0]), max(2 * p[0], p[1])]
    )


def test_none_must_take_part():
    with pytest.raises(ValueError, match="none"):
        equal_cost([even()], {"by-ids": ByIds()}, 80)


def test_what_is_not_tested_at_equal_retention_is_not_counted_here():
    records = many(12)
    methods = {"none": KeepAll(), "by-ids": ByIds(), "blind": ByIds(factor=0)}
    counted = equal_cost(records, methods, budget=80, tested=["by-ids"])
    assert math.isnan(counted["blind"].p_holm) and counted["by-ids"].p_holm == counted["by-ids"].p_value
    assert equal_cost(records, methods, budget=80)["by-ids"].p_holm >= counted["by-ids"].p_holm
