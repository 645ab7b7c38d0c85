"""What following a rule costs: points lost against the best ratio, on problems that the rule was not fitted to."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from prunebench.bench.evaluation.statistics import POINTS, Interval, Number, mean_interval
from prunebench.bench.guideline.curves import Curve
from prunebench.bench.guideline.fits import best_inverse, points_of
from prunebench.bench.guideline.forms import Form, fit_form, inverse_of
from prunebench.bench.guideline.paper_law import PAPER
from prunebench.bench.guideline.sweep import Sweep

Array = NDArray[np.float64]
Rule = Callable[[Curve], float]
"""1/gamma that a rule gives for a curve's budget, prefix and task length."""


class Regret(BaseModel):
    """Accuracy points lost by a rule against the best ratio of each cell, mean over cells, interval over problems.

    The best ratio is taken on the same problems that it is measured on, so the regret is an upper bound: even the true
    optimum would lose ``floor`` points by this count. ``refused``: share of the cells where the rule gives no ratio
    between 0 and 1, and the nearest that exists was taken. ``gain``: points over keeping all at the same budget, on the
    same held-out problems; no ratio was chosen on them, so it has no winner's curse.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="null")

    rule: str
    held_out: Interval
    gain: Interval
    left_out_task: Number
    refused: Number


def rules_of(curves: Sequence[Curve]) -> dict[str, Rule]:
    """The fitted forms and the simple rules, all from the same curves."""
    points, inverse = points_of(curves), best_inverse(curves)

    def formed(form: Form) -> Rule:
        constants = fit_form(form, points, inverse)
        return lambda curve: inverse_of(form, constants, curve.budget, curve.prefix, curve.task_length)

    def nearest(curve: Curve) -> float:
        """The geometric mean of the best 1/gamma at the nearest task length."""
        away = np.abs(np.log(points[:, 2] / curve.task_length))
        return float(np.exp(np.log(inverse[away == away.min()]).mean()))

    return {
        "law": formed("law"),
        "constant": formed("constant"),
        "log-linear": formed("log-linear"),
        "nearest task": nearest,
        "always 1/8": lambda _: 8.0,
        "paper's constants": lambda curve: PAPER.inverse_gamma(curve.budget, curve.prefix, curve.task_length),
        "keep all": lambda _: 1.0,
    }


def taken(curve: Curve, inverse: float) -> int:
    """The swept ratio that is nearest to a wanted one on a logarithmic scale."""
    wanted = -math.log(inverse) if 0 < inverse < math.inf else -math.inf
    return int(np.argmin([abs(math.log(gamma) - max(wanted, -50.0)) for gamma in curve.gammas]))


def lost(curves: Sequence[Curve], rule: Rule) -> tuple[Array, float]:
    """Points lost per problem (mean over the curves of its task, 0 to 100), and the share of refused ratios."""
    by_task: dict[str, list[Array]] = {}
    refused = []
    for curve in curves:
        inverse = rule(curve)
        refused.append(not 1 <= inverse <= 1 / min(curve.gammas) * math.sqrt(2))
        best, chosen = curve.best, taken(curve, inverse)
        by_task.setdefault(curve.task, []).append(100 * (curve.maj[best] - curve.maj[chosen]))
    return np.concatenate([np.mean(rows, axis=0) for rows in by_task.values()]), float(np.mean(refused))


def halves(sweep: Sweep) -> dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """By task the problems that laws are fitted on, and those that they are measured on: by the hash of their ids."""
    parts = {}
    for task, problems in sweep.problems.items():
        ranked = sorted(range(len(problems)), key=lambda i: hashlib.sha256(problems[i].encode()).hexdigest())
        middle = len(ranked) // 2
        parts[task] = (np.array(sorted(ranked[:middle]), np.int64), np.array(sorted(ranked[middle:]), np.int64))
    return parts


def regrets_of(sweep: Sweep, curves: Sequence[Curve]) -> tuple[list[Regret], float]:
    """Every rule fitted on one half of the problems and measured on the other, both ways; and with a task left out.

    The second number is what the best ratio of one half loses on the other: the winner's curse, which no rule escapes.
    """
    parts = halves(sweep)
    lost_by: dict[str, list[Array]] = {}
    refused: dict[str, list[float]] = {}
    floor = []
    for first, second in ((0, 1), (1, 0)):
        learn = [curve.only(parts[curve.task][first]) for curve in curves]
        held = [curve.only(parts[curve.task][second]) for curve in curves]
        for name, rule in rules_of(learn).items():
            values, share = lost(held, rule)
            lost_by.setdefault(name, []).append(values)
            refused.setdefault(name, []).append(share)
        best = {id(there): 1 / here.gammas[here.best] for here, there in zip(learn, held, strict=True)}
        floor.append(lost(held, lambda curve, best=best: best[id(curve)])[0])  # type: ignore[misc]
    elsewhere = _left_out(curves)
    held_out = {name: np.concatenate(values) for name, values in lost_by.items()}
    regrets = [
        Regret(
            rule=name,
            held_out=mean_interval(values, bounds=POINTS),
            gain=mean_interval(held_out["keep all"] - values, bounds=POINTS),
            left_out_task=elsewhere.get(name, math.nan),
            refused=float(np.mean(refused[name])),
        )
        for name, values in held_out.items()
    ]
    return regrets, float(np.concatenate(floor).mean())


def _left_out(curves: Sequence[Curve]) -> dict[str, float]:
    """By rule the points lost on a task that it was not fitted on, mean over the tasks."""
    tasks = list(dict.fromkeys(curve.task for curve in curves))
    if len(tasks) < 2:
        return {}
    lost_by: dict[str, list[float]] = {}
    for task in tasks:
        for name, rule in rules_of([curve for curve in curves if curve.task != task]).items():
            values, _ = lost([curve for curve in curves if curve.task == task], rule)
            lost_by.setdefault(name, []).append(float(values.mean()))
    return {name: float(np.mean(values)) for name, values in lost_by.items()}
