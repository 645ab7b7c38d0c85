"""Accuracy of the vote by retention ratio, and the best ratio of each curve."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from prunebench.bench.evaluation.statistics import POINTS, Interval, Number, mean_interval
from prunebench.bench.guideline.sweep import Sweep, SweepCell

Array = NDArray[np.float64]
LEVEL = 0.95


@dataclass(frozen=True)
class Curve:
    """maj@k|N of one method by retention ratio: ``maj`` (gammas, problems), for one task, prefix and budget."""

    task: str
    task_length: float
    prefix: int
    budget: float
    gammas: tuple[float, ...]
    maj: Array

    def only(self, problems: NDArray[np.int64]) -> Curve:
        return Curve(self.task, self.task_length, self.prefix, self.budget, self.gammas, self.maj[:, problems])

    @property
    def best(self) -> int:
        """Of equal ones the largest ratio: it prunes least."""
        return int(np.argmax(self.maj.mean(axis=1)))


class Optimum(BaseModel):
    """The best retention ratio of one cell of the sweep, and all that are not significantly worse (paired, 95 %)."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="null")

    task: str
    task_length: float
    prefix: int
    budget: float
    gamma: float
    as_good: list[float]
    maj: Number
    gain: Interval


def curves_of(sweep: Sweep, method: str) -> list[Curve]:
    """The curves of a method over cells whose budget the stored paths could spend, ratios from large to small."""
    groups: dict[tuple[str, int, float], list[SweepCell]] = {}
    for cell in sweep.cells:
        if cell.method == method and not cell.capped:
            groups.setdefault((cell.task, cell.prefix, cell.budget), []).append(cell)
    curves = []
    for (task, prefix, budget), cells in groups.items():
        cells.sort(key=lambda cell: -cell.gamma)
        distinct = [*cells[:1], *(cell for last, cell in pairwise(cells) if (cell.n, cell.k) != (last.n, last.k))]
        if len(distinct) >= 3 and distinct[0].gamma == 1:
            curves.append(
                Curve(
                    task, sweep.lengths[task], prefix, budget,
                    tuple(cell.gamma for cell in distinct), np.array([cell.maj for cell in distinct]),
                )
            )  # fmt: skip
    return curves


def optimum_of(curve: Curve) -> Optimum:
    """The best ratio of a curve with its company, and its gain over keeping all at the same budget."""
    best = curve.best
    as_good = [
        gamma
        for row, gamma in enumerate(curve.gammas)
        if row == best or not mean_interval(100 * (curve.maj[best] - curve.maj[row]), LEVEL, POINTS).low > 0
    ]
    gain = mean_interval(100 * (curve.maj[best] - curve.maj[0]), bounds=POINTS)
    return Optimum(
        task=curve.task, task_length=curve.task_length, prefix=curve.prefix, budget=curve.budget,
        gamma=curve.gammas[best], as_good=as_good, maj=100 * float(curve.maj[best].mean()),
        gain=gain,
    )  # fmt: skip


def problems_needed(curve: Curve, level: float = LEVEL) -> int:
    """Problems for the greatest difference d of the curve to be as large as its half-width: (z s / d)^2."""
    from scipy.stats import norm

    worst = int(np.argmin(curve.maj.mean(axis=1)))
    difference = curve.maj[curve.best] - curve.maj[worst]
    if difference.mean() <= 0:
        return 10**6
    return max(
        len(difference) + 1,
        math.ceil(float(norm.ppf((1 + level) / 2) * difference.std(ddof=1) / difference.mean()) ** 2),
    )
