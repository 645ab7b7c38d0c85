"""The comparison at equal cost: every method gets the pool that it can pay for, and the votes are compared."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prunebench.bench.engines.arithmetic import Arithmetic
from prunebench.bench.evaluation import metrics
from prunebench.bench.evaluation.ledger import entries, generator_token, in_generator_tokens, whole_cost
from prunebench.bench.evaluation.replay import Replay
from prunebench.bench.evaluation.results import EqualCostRow
from prunebench.bench.evaluation.statistics import mean_interval
from prunebench.bench.evaluation.subsampling import Subsamples
from prunebench.bench.evaluation.tables.main import correct_of, significance
from prunebench.bench.policies import Policy
from prunebench.bench.policies.votes import Majority
from prunebench.bench.rollouts.records import ProblemRecord
from prunebench.methods.base import Pruner

Array = NDArray[np.float64]
Scaled = Callable[[int], Policy]
"""The policy of a method for a pool of so many paths."""


CLOSE_IN = 8
"""After so many costs the search for the largest pool halves what is left."""
ROUNDING = 1e-9
"""Sums of the same costs in another order differ by so much; a method is not refused a path for it."""


@dataclass(frozen=True)
class _Point:
    """A method with pools of ``n`` paths: per problem means over the draws, and the mean number of paths kept."""

    n: int
    k: float
    cost: Array
    avg: Array
    maj: Array


def default_budget(records: Sequence[ProblemRecord]) -> float:
    """Cost of ``none`` with a quarter of the stored paths, in generator tokens: mean over the problems."""
    return float(np.mean([max(1, len(r.pool) // 4) * r.lengths.mean() for r in records]))


def at_equal_cost(
    records: Sequence[ProblemRecord],
    task: str,
    methods: Mapping[str, Pruner],
    policies: Mapping[str, Scaled],
    arithmetic: Arithmetic | None,
    budget: float,
    *,
    draws: int,
    seed: int,
    drawn: Mapping[str, Subsamples],
    full: Mapping[str, float] = {},
    progress: Callable[[], None] = lambda: None,
) -> list[EqualCostRow]:
    """One row per method of ``policies``: maj@k of the largest N whose expected cost is at most ``budget``.

    The retention ratio stays; N varies. Cost is in generator tokens (arithmetic over that of one token), the expected
    one is the mean over ``records`` and over ``draws`` pools drawn from the stored paths without replacement. ``full``
    may say what all stored paths cost a method, where that is known. The difference is taken to ``none`` at its own N
    of the same budget. A method that cannot pay for one path, and one whose cost nobody knows, has no row. Raises
    ValueError when ``none`` is not among the methods.
    """
    if "none" not in policies:
        raise ValueError("equal cost is a difference to none: it must take part")
    unit = generator_token(records, arithmetic)
    most = min(len(record.pool) for record in records)
    found: dict[str, _Point] = {}
    for name in policies:
        points: dict[int, _Point] = {}

        def at(n: int, name: str = name, points: dict[int, _Point] = points) -> _Point:
            if n not in points:
                # All stored paths are one pool, however they are drawn.
                played = drawn[name].replay(policies[name](n), n, 1 if n == most else draws)
                points[n] = _point(records, played, n, arithmetic, unit)
            return points[n]

        best = largest_affordable(lambda n, at=at: float(at(n).cost.mean()), budget, most, full.get(name))  # type: ignore[misc]
        if best:
            found[name] = at(best)
        progress()
    return _rows(records, task, methods, policies, found, budget, draws, seed)


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
    played: Sequence[Sequence[tuple[ProblemRecord, Replay]]],
    n: int,
    arithmetic: Arithmetic | None,
    unit: float,
) -> _Point:
    def over_draws(value: Callable[[ProblemRecord, Replay], float]) -> Array:
        return np.array([np.mean([value(record, one) for record, one in draws]) for draws in played])

    def cost(record: ProblemRecord, one: Replay) -> float:
        return in_generator_tokens(entries(record, "", [one], arithmetic), [one], unit)

    # Some draws took longer paths than others: what their paths cost as a whole is known exactly, and corrects for it.
    expected = np.array([n * whole_cost(whole, arithmetic) / len(whole.pool) for whole in records])
    met = over_draws(lambda record, _: whole_cost(record, arithmetic))
    return _Point(
        n,
        float(over_draws(lambda _, one: float(one.keep.sum())).mean()),
        over_draws(cost) * expected / met,
        over_draws(lambda record, one: float(metrics.avg_at_k(correct_of(record, one), one.keep))),
        over_draws(lambda record, one: Majority().elect(one.answer_class[one.keep]).correctness(record.gold_class)),
    )


def _rows(
    records: Sequence[ProblemRecord],
    task: str,
    methods: Mapping[str, Pruner],
    policies: Mapping[str, Scaled],
    found: Mapping[str, _Point],
    budget: float,
    draws: int,
    seed: int,
) -> list[EqualCostRow]:
    if "none" not in found:
        return []
    base = found["none"].maj
    p_values, adjusted = significance({name: point.maj - base for name, point in found.items()}, methods, seed)
    most = min(len(record.pool) for record in records)
    rows = []
    for name, point in found.items():
        vote, delta = mean_interval(100 * point.maj), mean_interval(100 * (point.maj - base))
        rows.append(
            EqualCostRow(
                task=task,
                method=name,
                quadrant=type(methods[name]).quadrant().value,
                policy=str(policies[name](point.n)),
                stored_paths=most,
                n=point.n,
                k=point.k,
                budget=budget,
                cost=float(point.cost.mean()),
                capped=point.n == most,
                avg_at_k=100 * float(point.avg.mean()),
                maj_at_k=vote.mean,
                maj_at_k_low=vote.low,
                maj_at_k_high=vote.high,
                maj_delta=delta.mean,
                maj_delta_low=delta.low,
                maj_delta_high=delta.high,
                p_value=p_values[name],
                p_holm=adjusted.get(name, math.nan),
                draws=draws,
                n_problems=len(records),
            )
        )
    return rows
