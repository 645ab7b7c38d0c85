"""Two methods of one comparison held against each other, problem by problem."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prunebench.bench.errors import UserError
from prunebench.bench.evaluation.grading import graded
from prunebench.bench.evaluation.ledger import generator_token
from prunebench.bench.evaluation.rebuild import WrittenRun
from prunebench.bench.evaluation.statistics import POINTS, Interval, holm, mean_interval, sign_flip_p
from prunebench.bench.evaluation.tables.main import tables_of


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


def versus(run: WrittenRun, method: str, others: Sequence[str]) -> list[VersusRow]:
    """``method`` against each of ``others``, on every task and on all pooled, which comes last.

    Raises UserError for a method that took no part, and for one that is held against itself.
    """
    if method in others:
        raise UserError(f"{method} is held against itself: name other methods")
    for name in (method, *others):
        if name not in run.replays.of:
            known = ", ".join(run.replays.of)
            raise UserError(f"method '{name}' has no row in this comparison; it has {known}")
    unit = generator_token(run.records, run.setting.arithmetic)
    methods = {
        name: graded(
            run.candidates[name], run.records, run.replays.of[name], run.setting.arithmetic, unit, run.setting.vote
        )
        for name in (method, *others)
    }
    rows = []
    for task, problems in tables_of(run.records).items():
        avg = {other: (methods[method].avg - methods[other].avg)[problems] for other in others}
        maj = {other: (methods[method].maj - methods[other].maj)[problems] for other in others}
        p_values = [sign_flip_p(avg[other], run.config.seed) for other in others]
        for other, p, adjusted in zip(others, p_values, holm(p_values), strict=True):
            rows.append(
                VersusRow(
                    task,
                    method,
                    other,
                    mean_interval(100 * avg[other], bounds=POINTS),
                    mean_interval(100 * maj[other], bounds=POINTS),
                    p,
                    adjusted,
                    len(problems),
                )
            )
    return rows
