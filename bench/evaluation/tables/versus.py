"""Two methods of one comparison held against each other, problem by problem."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prunebench.bench.errors import UserError
from prunebench.bench.evaluation import metrics
from prunebench.bench.evaluation.rebuild import Reopened
from prunebench.bench.evaluation.replay import Replay
from prunebench.bench.evaluation.statistics import Interval, holm, mean_interval, sign_flip_p
from prunebench.bench.evaluation.tables.main import correct_of, tables_of
from prunebench.bench.policies.votes import Majority
from prunebench.bench.rollouts.records import ProblemRecord

Array = NDArray[np.float64]


@dataclass(frozen=True)
class VersusRow:
    """``method`` minus ``other`` on a task, in points: avg@k and the vote, with 95 % intervals over problems.

    ``p``: sign-flip permutation of the avg@k, ``p_holm`` adjusted for all ``other`` methods that were asked for.
    """

    task: str
    method: str
    other: str
    avg: Interval
    maj: Interval
    p: float
    p_holm: float
    n_problems: int


def versus(run: Reopened, method: str, others: Sequence[str]) -> list[VersusRow]:
    """``method`` against each of ``others``, on every task and on all pooled, which comes last.

    Raises UserError for a method that took no part.
    """
    for name in (method, *others):
        if name not in run.scored.played:
            known = ", ".join(run.scored.played)
            raise UserError(f"method '{name}' has no row in this comparison; it has {known}")
    avg = {name: _per_problem(run, name, _average) for name in (method, *others)}
    maj = {name: _per_problem(run, name, _vote) for name in (method, *others)}
    rows = []
    for task, problems in tables_of(run.records).items():
        p_values = [sign_flip_p((avg[method] - avg[other])[problems], run.config.seed) for other in others]
        for other, p, adjusted in zip(others, p_values, holm(p_values), strict=True):
            rows.append(
                VersusRow(
                    task,
                    method,
                    other,
                    mean_interval(100 * (avg[method] - avg[other])[problems]),
                    mean_interval(100 * (maj[method] - maj[other])[problems]),
                    p,
                    adjusted,
                    len(problems),
                )
            )
    return rows


def _per_problem(run: Reopened, name: str, value: Callable[[ProblemRecord, Replay], float]) -> Array:
    """(problems,): means over the draws."""
    return np.array(
        [
            math.fsum(value(record, one) for one in draws) / len(draws)
            for record, draws in zip(run.records, run.scored.played[name], strict=True)
        ]
    )


def _average(record: ProblemRecord, one: Replay) -> float:
    return float(metrics.avg_at_k(correct_of(record, one), one.keep))


def _vote(record: ProblemRecord, one: Replay) -> float:
    return Majority().elect(one.answer_class[one.keep]).correctness(record.gold_class)
