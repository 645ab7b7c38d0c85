"""The comparison at equal cost: every method gets the pool that it can pay for, and the votes are compared."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from prunebench.bench.engines.arithmetic import Arithmetic
from prunebench.bench.evaluation import metrics
from prunebench.bench.evaluation.candidates import Candidate
from prunebench.bench.evaluation.grading import correct_of, elected
from prunebench.bench.evaluation.ledger import entries, generator_token, in_generator_tokens, whole_cost
from prunebench.bench.evaluation.replay import Replay
from prunebench.bench.evaluation.results import EqualCostRow
from prunebench.bench.evaluation.statistics import PERCENT, POINTS, mean_interval
from prunebench.bench.evaluation.subsampling import Subsamples
from prunebench.bench.evaluation.tables.main import significance
from prunebench.bench.policies import Policy
from prunebench.bench.policies.votes import Majority, Vote
from prunebench.bench.progress import Tick, uncounted
from prunebench.bench.rollouts.records import ProblemRecord

Array = NDArray[np.float64]
PolicyFor = Callable[[int], Policy]
"""The policy of a method for a pool of so many paths."""

CLOSE_IN = 8
"""After so many costs the search for the largest pool halves what is left."""
CHANCE_DRAWS = 200
"""Pools of what reads no prefix: they cost nothing to draw, and every difference is taken to one of them."""
ROUNDING = 1e-9
"""Sums of the same costs in another order differ by so much; a method is not refused a path for it."""


@dataclass(frozen=True)
class Point:
    """A method with pools of ``n`` paths: per problem means over ``draws`` and trainings; ``k`` of them are kept."""

    n: int
    draws: int
    k: float
    cost: Array
    avg: Array
    maj: Array


def default_budget(records: Sequence[ProblemRecord]) -> float:
    """Cost of ``none`` with a quarter of the stored paths, in generator tokens: mean over the problems."""
    return float(np.mean([max(1, len(r.pool) // 4) * r.lengths.mean() for r in records]))


@dataclass(frozen=True)
class Budget:
    """``tokens``: generator tokens per problem; ``draws`` pools are drawn for every number of paths."""

    tokens: float
    draws: int
    seed: int
    arithmetic: Arithmetic | None = None
    vote: Vote = Majority()  # noqa: RUF009 - frozen


def at_equal_cost(
    records: Sequence[ProblemRecord],
    task: str,
    candidates: Mapping[str, Candidate],
    policies: Mapping[str, PolicyFor],
    subsamples: Mapping[str, Subsamples],
    budget: Budget,
    full: Mapping[str, float] = {},
    progress: Tick = uncounted,
    apart: Mapping[str, Callable[[], Point | None]] = {},
    tested: Collection[str] | None = None,
) -> list[EqualCostRow]:
    """One row per method of ``policies``: maj@k of the largest N whose expected cost is at most the ``budget``.

    The retention ratio stays; N varies. Cost is in generator tokens (arithmetic over that of one token), the expected
    one is the mean over ``records`` and over pools drawn from the stored paths without replacement; for what reads
    no prefix :data:`CHANCE_DRAWS` are drawn. ``full`` may say what all stored paths cost a method, where that is
    known. The difference is taken to ``none`` at its own N of the same budget. A method that cannot pay for one path,
    and one whose cost nobody knows, has no row. What others find ``apart`` is asked of them last. Raises ValueError
    when ``none`` is not among the methods.
    """
    if "none" not in policies:
        raise ValueError("equal cost is a difference to none: it must take part")
    found: dict[str, Point | None] = {}
    for name in sorted(policies, key=apart.__contains__):  # what others find comes while this process finds its own
        if name in apart:
            found[name] = apart[name]()
        else:
            found[name] = affordable(
                records, candidates[name], policies[name], subsamples[name], budget, full.get(name)
            )
        progress(1)
    chosen = {name: point for name in policies if (point := found[name]) is not None}
    counted = [name for name in chosen if candidates[name].competes and (tested is None or name in tested)]
    return _rows(records, task, candidates, policies, chosen, budget, counted)


def affordable(
    records: Sequence[ProblemRecord],
    candidate: Candidate,
    policy: PolicyFor,
    subsamples: Subsamples,
    budget: Budget,
    full: float | None = None,
) -> Point | None:
    """A method with the largest pools that it can pay for; None where it cannot pay for one path."""
    pruner, most = candidate.pruner, min(len(record.pool) for record in records)
    unit = generator_token(records, budget.arithmetic)

    @cache
    def at(n: int, draws: int) -> Point:
        return _point(records, subsamples.replay(policy(n), n, draws), n, draws, budget, unit)

    def cost(n: int) -> float:
        return float(at(n, 1 if n == most else max(budget.draws, chance)).cost.mean())

    chance = 1 if pruner.requires or candidate.reads else CHANCE_DRAWS
    best = largest_affordable(cost, budget.tokens, most, full)
    if not best:
        return None
    # All stored paths are one pool, however they are drawn; only what draws of it itself differs.
    alone = best == most and type(pruner).draws == 1
    return at(best, 1 if alone else max(budget.draws, chance))


def largest_affordable(cost: Callable[[int], float], budget: float, most: int, first: float | None = None) -> int:
    """The largest n from 1 to ``most`` with cost(n) <= ``budget``, 0 if there is none (or the cost is NaN).

    ``cost`` must not fall with n. It is asked seldom: costs are nearly proportional to n, so the search starts where
    that would put the answer. ``first`` is cost(most) where it is known.
    """
    first = cost(most) if first is None else first
    if math.isnan(first):
        return 0
    if first <= budget * (1 + ROUNDING):
        return most
    low, high, known = 0, most, {0: 0.0, most: first}
    while high - low > 1:
        share = (budget - known[low]) / (known[high] - known[low])
        n = min(max(low + 1, low + int(share * (high - low))), high - 1)
        if len(known) > CLOSE_IN:  # the costs are not that straight
            n = (low + high) // 2
        known[n] = cost(n)
        low, high = (n, high) if known[n] <= budget * (1 + ROUNDING) else (low, n)
    return low


def _point(
    records: Sequence[ProblemRecord],
    draws: Sequence[Sequence[tuple[ProblemRecord, Replay]]],
    n: int,
    drawn: int,
    budget: Budget,
    unit: float,
) -> Point:
    def over_draws(value: Callable[[ProblemRecord, Replay], float]) -> Array:
        return np.array([np.mean([value(record, replay) for record, replay in pools]) for pools in draws])

    def cost(record: ProblemRecord, replay: Replay) -> float:
        return in_generator_tokens(entries(record, "", [replay], budget.arithmetic), [replay], unit)

    # Some draws took longer paths than others: what their paths cost as a whole is known exactly, and corrects for it.
    expected = np.array([n * whole_cost(whole, budget.arithmetic) / len(whole.pool) for whole in records])
    of_the_draw = over_draws(lambda record, _: whole_cost(record, budget.arithmetic))
    return Point(
        n,
        drawn,
        float(over_draws(lambda _, replay: float(replay.keep.sum())).mean()),
        over_draws(cost) * expected / of_the_draw,
        over_draws(lambda record, replay: float(metrics.avg_at_k(correct_of(record, replay), replay.keep))),
        over_draws(lambda record, replay: float(elected(budget.vote, record, [replay])[0][0])),
    )


def _rows(
    records: Sequence[ProblemRecord],
    task: str,
    candidates: Mapping[str, Candidate],
    policies: Mapping[str, PolicyFor],
    chosen: Mapping[str, Point],
    budget: Budget,
    counted: Collection[str],
) -> list[EqualCostRow]:
    if "none" not in chosen:
        return []
    base = chosen["none"].maj
    differences = {name: point.maj - base for name, point in chosen.items()}
    p_values, adjusted = significance(differences, counted, budget.seed)
    most = min(len(record.pool) for record in records)
    return [
        EqualCostRow(
            task=task,
            method=name,
            quadrant=candidates[name].pruner.quadrant().value,
            policy=str(policies[name](point.n)),
            stored_paths=most,
            n=point.n,
            k=point.k,
            budget=budget.tokens,
            cost=float(point.cost.mean()),
            capped=point.n == most,
            avg_at_k=100 * float(point.avg.mean()),
            maj_at_k=mean_interval(100 * point.maj, bounds=PERCENT),
            maj_delta=mean_interval(100 * differences[name], bounds=POINTS),
            p_value=p_values[name],
            p_holm=adjusted.get(name, math.nan),
            draws=point.draws,
            n_problems=len(records),
        )
        for name, point in chosen.items()
    ]
