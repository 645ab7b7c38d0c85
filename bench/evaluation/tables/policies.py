"""A policy of several checks against one check that may cost as much: the same scores, the same paths, paired."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from prunebench.bench.evaluation import metrics
from prunebench.bench.evaluation.results import PolicyRow
from prunebench.bench.evaluation.statistics import mean_interval
from prunebench.bench.evaluation.tables.main import Replays, correct_of, replay_methods
from prunebench.bench.policies import CheckRecord, Policy, TopK
from prunebench.bench.policies.votes import Majority
from prunebench.bench.rollouts.records import ProblemRecord
from prunebench.methods.base import Pruner

Array = NDArray[np.float64]


def against_one_check(
    records: Sequence[ProblemRecord], scored: Replays, methods: Mapping[str, Pruner], policies: Mapping[str, Policy]
) -> list[PolicyRow]:
    """One row per method: what its policy gains over ``topk`` with the largest k whose mean cost is not above its own.

    ``scored`` holds what the methods did under ``policies``. Costs are all tokens, means over the records. A method for
    which even k = 1 costs more is left out. Draws beyond the first (of ``random``) are not looked at.
    """
    once = replay_methods(records, methods, dict.fromkeys(methods, TopK(1)))
    rows = []
    for name in methods:
        if name not in scored.played or name not in once.played:
            continue
        played = [draws[0] for draws in scored.played[name]]
        tokens = np.array([float(one.decoded.sum()) + one.cost.tokens for one in played])
        single = [draws[0] for draws in once.played[name]]
        costs = np.array(
            [
                [
                    float(np.where(keep, r.lengths, np.minimum(r.lengths, r.pool.position)).sum()) + one.cost.tokens
                    for keep in _kept_by_k(r, one.scores)
                ]
                for r, one in zip(records, single, strict=True)
            ]
        )
        affordable = np.flatnonzero(costs.mean(axis=0) <= tokens.mean())
        if not len(affordable):
            continue
        k = int(affordable[-1]) + 1
        kept = [_kept_by_k(r, one.scores)[k - 1] for r, one in zip(records, single, strict=True)]
        accuracy = mean_interval(
            100
            * np.array(
                [
                    metrics.avg_at_k(correct_of(r, p), p.keep) - metrics.avg_at_k(r.correct, keep)
                    for r, p, keep in zip(records, played, kept, strict=True)
                ]
            )
        )
        vote = mean_interval(
            100
            * np.array(
                [
                    _voted(r, p.answer_class, p.keep) - _voted(r, r.answer_class, keep)
                    for r, p, keep in zip(records, played, kept, strict=True)
                ]
            )
        )
        rows.append(
            PolicyRow(
                method=name,
                policy=str(policies[name]),
                tokens=float(tokens.mean()),
                one_check_k=k,
                one_check_tokens=float(costs[:, k - 1].mean()),
                avg_difference=accuracy.mean,
                avg_difference_low=accuracy.low,
                avg_difference_high=accuracy.high,
                maj_difference=vote.mean,
                maj_difference_low=vote.low,
                maj_difference_high=vote.high,
                n_problems=len(records),
            )
        )
    return rows


def _kept_by_k(record: ProblemRecord, scores: Array) -> list[NDArray[np.bool_]]:
    """What one check keeps for every k from 1 to N."""
    check = CheckRecord(record.pool.position, scores, record.pool.finished, record.pool.answer_class)
    return [TopK(k).decide([check]).keep for k in range(1, len(scores) + 1)]


def _voted(record: ProblemRecord, answers: NDArray[np.int64], keep: NDArray[np.bool_]) -> float:
    return Majority().elect(answers[keep]).correctness(record.gold_class)
