"""A retention ratio for a budget: laws fitted to a sweep, what they rest on, and what following them costs.

1/gamma = a C^b Lp^c / Lt^d (arXiv 2604.16029, Eq. 7) is fitted by least squares on the logarithms of the measured
optima, beside two rivals: one ratio for all, and a line in the logarithms that never goes below 1/gamma = 1. A law is
fitted on one half of the problems; its regret, the accuracy lost against the best ratio of a cell, is measured on the
other half. C, Lp and Lt are in units of 1,024 tokens.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from prunebench.bench.errors import UserError
from prunebench.bench.evaluation.statistics import Interval, Number, mean_interval
from prunebench.bench.files import Document
from prunebench.bench.guideline.paper_law import PAPER, UNIT
from prunebench.bench.guideline.sweep import Cell, Sweep

Array = NDArray[np.float64]
Form = Literal["law", "constant", "log-linear"]
FORMS: tuple[Form, ...] = ("law", "constant", "log-linear")
RESAMPLES = 500
KEPT_RESAMPLES = 100
FEWEST_PROBLEMS = 8
"""Per task: with fewer neither half of them gives an interval worth its name."""
LEVEL = 0.95


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


class Fit(BaseModel):
    """One form with its constants and their bootstrap intervals (problems resampled within their tasks).

    ``resampled`` holds the constants of some of the resamples, in the order of ``constants``: for bands around a curve.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="null")

    form: Form
    constants: dict[str, Interval]
    resampled: list[list[float]]


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


class Guideline(Document):
    """Laws for one method and one model, fitted to one sweep."""

    KIND = "guideline"
    COMMAND = "prunebench sweep"

    schema_version: Literal[1] = 1
    model: str
    model_hash: str
    method: str
    stored_paths: int
    draws: int
    problems: dict[str, int]
    lengths: dict[str, float]
    prefixes: list[int]
    budgets: list[float]
    gammas: list[float]
    optima: list[Optimum]
    fits: list[Fit]
    regrets: list[Regret]
    floor: Number
    sweep_command: str

    def fit(self, form: Form) -> Fit:
        return next(fit for fit in self.fits if fit.form == form)

    def inverse_gamma(self, form: Form, budget: float, prefix: float, task_length: float) -> float:
        """1/gamma by the fitted form, also below 1. Lengths in tokens."""
        fit = self.fit(form)
        return inverse_of(form, [one.mean for one in fit.constants.values()], budget, prefix, task_length)

    @property
    def best_form(self) -> Form:
        """The form with the least regret on held-out problems."""
        return min(FORMS, key=lambda form: self.regret(form).mean)

    def regret(self, rule: str) -> Interval:
        """Points lost by a rule on held-out problems."""
        return next(one.held_out for one in self.regrets if one.rule == rule)

    def gain(self, rule: str) -> Interval:
        """Points of a rule over keeping all, on held-out problems."""
        return next(one.gain for one in self.regrets if one.rule == rule)


# --- curves -------------------------------------------------------------------------------------------------------


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


def curves_of(sweep: Sweep, method: str) -> list[Curve]:
    """The curves of a method over cells whose budget the stored paths could spend, ratios from large to small."""
    groups: dict[tuple[str, int, float], list[Cell]] = {}
    for cell in sweep.cells:
        if cell.method == method and not cell.capped:
            groups.setdefault((cell.task, cell.prefix, cell.budget), []).append(cell)
    curves = []
    for (task, prefix, budget), cells in groups.items():
        cells.sort(key=lambda cell: -cell.gamma)
        distinct = [
            cell for i, cell in enumerate(cells) if i == 0 or (cell.n, cell.k) != (cells[i - 1].n, cells[i - 1].k)
        ]
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
    as_good = []
    for row, gamma in enumerate(curve.gammas):
        worse = mean_interval(curve.maj[best] - curve.maj[row], LEVEL)
        if row == best or not worse.low > 0:
            as_good.append(gamma)
    gain = mean_interval(100 * (curve.maj[best] - curve.maj[0]))
    return Optimum(
        task=curve.task, task_length=curve.task_length, prefix=curve.prefix, budget=curve.budget,
        gamma=curve.gammas[best], as_good=as_good, maj=100 * float(curve.maj[best].mean()),
        gain=gain,
    )  # fmt: skip


# --- forms --------------------------------------------------------------------------------------------------------


def inverse_of(form: Form, constants: Sequence[float], budget: float, prefix: float, task_length: float) -> float:
    logs = [math.log(value / UNIT) for value in (budget, prefix, task_length)]
    if form == "constant":
        return constants[0]
    a, b, c, d = constants
    if form == "law":
        return a * math.exp(b * logs[0] + c * logs[1] - d * logs[2])
    return max(1.0, a + b * logs[0] + c * logs[1] - d * logs[2])


NAMES: Mapping[Form, tuple[str, ...]] = {
    "law": ("a", "b", "c", "d"), "constant": ("a",), "log-linear": ("a", "b", "c", "d")
}  # fmt: skip


def fit_form(form: Form, points: Array, inverse: Array) -> list[float]:
    """Constants from ``points`` (cells, 3: budget, prefix, task length in tokens) and the measured ``inverse`` gammas.

    The law by least squares on log(1/gamma), the log-linear rival on 1/gamma itself, the constant as geometric mean.
    What the points do not vary in gets no exponent: a single task length says nothing of d.
    """
    logs = np.log(points / UNIT)
    if form == "constant":
        return [float(np.exp(np.log(inverse).mean()))]
    target = np.log(inverse) if form == "law" else inverse
    varies = np.ptp(logs, axis=0) > 1e-9
    design = np.column_stack([np.ones(len(logs)), *(logs[:, i] for i in range(3) if varies[i])])
    solved, *_ = np.linalg.lstsq(design, target, rcond=None)
    rest = iter(solved[1:])
    slopes = [float(next(rest)) if varies[i] else 0.0 for i in range(3)]
    first = float(np.exp(solved[0])) if form == "law" else float(solved[0])
    return [first, slopes[0], slopes[1], -slopes[2]]


def _points(curves: Sequence[Curve]) -> Array:
    return np.array([[curve.budget, curve.prefix, curve.task_length] for curve in curves])


def _best_inverse(curves: Sequence[Curve], weights: Mapping[str, Array] | None = None) -> Array:
    """1 / best gamma of every curve; ``weights`` (problems,) by task count resampled problems."""
    found = []
    for curve in curves:
        means = curve.maj.mean(axis=1) if weights is None else curve.maj @ weights[curve.task]
        found.append(1 / curve.gammas[int(np.argmax(means))])
    return np.array(found)


def fitted(curves: Sequence[Curve], seed: int = 0, resamples: int = RESAMPLES) -> list[Fit]:
    """Every form, with percentile intervals of its constants over resamples of the problems within their tasks."""
    points, random = _points(curves), np.random.default_rng(seed)
    sizes = {curve.task: curve.maj.shape[1] for curve in curves}
    centre = {form: fit_form(form, points, _best_inverse(curves)) for form in FORMS}
    drawn: dict[Form, list[list[float]]] = {form: [] for form in FORMS}
    for _ in range(resamples):
        weights = {task: random.multinomial(n, np.full(n, 1 / n)) / n for task, n in sizes.items()}
        inverse = _best_inverse(curves, weights)
        for form in FORMS:
            drawn[form].append(fit_form(form, points, inverse))
    found = []
    for form in FORMS:
        low, high = np.percentile(np.array(drawn[form]), [2.5, 97.5], axis=0)
        found.append(
            Fit(
                form=form,
                constants={
                    name: Interval(mean=centre[form][i], low=float(low[i]), high=float(high[i]))
                    for i, name in enumerate(NAMES[form])
                },
                resampled=[[float(f"{one:.6g}") for one in constants] for constants in drawn[form][:KEPT_RESAMPLES]],
            )
        )
    return found


# --- regret -------------------------------------------------------------------------------------------------------

Rule = Callable[[Curve], float]
"""1/gamma that a rule gives for a curve's budget, prefix and task length."""


def rules_of(curves: Sequence[Curve]) -> dict[str, Rule]:
    """The fitted forms and the simple rules, all from the same curves."""
    points, inverse = _points(curves), _best_inverse(curves)

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
    found = {}
    for task, problems in sweep.problems.items():
        ranked = sorted(range(len(problems)), key=lambda i: hashlib.sha256(problems[i].encode()).hexdigest())
        middle = len(ranked) // 2
        found[task] = (np.array(sorted(ranked[:middle]), np.int64), np.array(sorted(ranked[middle:]), np.int64))
    return found


def regrets_of(sweep: Sweep, curves: Sequence[Curve]) -> tuple[list[Regret], float]:
    """Every rule fitted on one half of the problems and measured on the other, both ways; and with a task left out.

    The second number is what the best ratio of one half loses on the other: the winner's curse, which no rule escapes.
    """
    parts = halves(sweep)
    told: dict[str, list[Array]] = {}
    refused: dict[str, list[float]] = {}
    floor = []
    for first, second in ((0, 1), (1, 0)):
        learn = [curve.only(parts[curve.task][first]) for curve in curves]
        held = [curve.only(parts[curve.task][second]) for curve in curves]
        for name, rule in rules_of(learn).items():
            values, share = lost(held, rule)
            told.setdefault(name, []).append(values)
            refused.setdefault(name, []).append(share)
        own = {id(there): 1 / here.gammas[here.best] for here, there in zip(learn, held, strict=True)}
        floor.append(lost(held, lambda curve, own=own: own[id(curve)])[0])  # type: ignore[misc]
    elsewhere = _left_out(curves)
    found = []
    for name, parts_of_rule in told.items():
        values = np.concatenate(parts_of_rule)
        found.append(
            Regret(
                rule=name,
                held_out=mean_interval(values),
                gain=mean_interval(np.concatenate(told["keep all"]) - values),
                left_out_task=elsewhere.get(name, math.nan),
                refused=float(np.mean(refused[name])),
            )
        )
    return found, float(np.concatenate(floor).mean())


def _left_out(curves: Sequence[Curve]) -> dict[str, float]:
    """By rule the points lost on a task that it was not fitted on, mean over the tasks."""
    tasks = list(dict.fromkeys(curve.task for curve in curves))
    if len(tasks) < 2:
        return {}
    told: dict[str, list[float]] = {}
    for task in tasks:
        for name, rule in rules_of([curve for curve in curves if curve.task != task]).items():
            values, _ = lost([curve for curve in curves if curve.task == task], rule)
            told.setdefault(name, []).append(float(values.mean()))
    return {name: float(np.mean(values)) for name, values in told.items()}


# --- the whole ----------------------------------------------------------------------------------------------------


def guideline_of(sweep: Sweep, method: str, seed: int = 0) -> Guideline:
    """Optima, laws and regrets of one method. Raises UserError where there are too few problems to find an optimum."""
    if method not in sweep.methods:
        reason = sweep.left_out.get(method, f"it swept {', '.join(sweep.methods)}")
        raise UserError(f"the sweep holds no method '{method}': {reason}")
    curves = curves_of(sweep, method)
    if not curves:
        raise UserError(
            f"'{method}': no budget of the sweep could be spent at three retention ratios; sample more paths per "
            "problem or sweep smaller budgets"
        )
    optima = [optimum_of(curve) for curve in curves]
    _require_enough(sweep, curves)
    regrets, floor = regrets_of(sweep, curves)
    return Guideline(
        model=sweep.model,
        model_hash=sweep.model_hash,
        method=method,
        stored_paths=sweep.stored_paths,
        draws=sweep.draws,
        problems={task: len(problems) for task, problems in sweep.problems.items()},
        lengths=sweep.lengths,
        prefixes=sorted({curve.prefix for curve in curves}),
        budgets=sorted({curve.budget for curve in curves}),
        gammas=sorted({gamma for curve in curves for gamma in curve.gammas}, reverse=True),
        optima=optima,
        fits=fitted(curves, seed),
        regrets=regrets,
        floor=floor,
        sweep_command=sweep.command,
    )


def write_guidelines(sweep: Sweep, out: Path) -> dict[str, str]:
    """``guideline-<method>.json`` of every method but ``random``; returns by method why it has none.

    Those of an earlier sweep go.
    """
    for file in out.glob(PATTERN):
        file.unlink()
    refused = {}
    for method in sweep.methods:
        if method != "random":
            try:
                guideline_of(sweep, method).save(out / f"guideline-{method}.json", indent=1)
            except UserError as error:
                refused[method] = str(error)
    return refused


PATTERN = "guideline-*.json"


def read_guidelines(path: Path) -> list[Guideline]:
    """One file, or all of a sweep's folder. Raises UserError where there is none."""
    files = sorted(path.glob(PATTERN)) if path.is_dir() else [path]
    if not files:
        raise UserError(f"{path}: no guideline there; make one with: {Guideline.COMMAND} --out {path}")
    return [Guideline.read(file) for file in files]


def _require_enough(sweep: Sweep, curves: Sequence[Curve]) -> None:
    """An optimum is found where some ratio is significantly worse than the best, counted over all that are compared."""
    fewest = min(len(problems) for problems in sweep.problems.values())
    if fewest < FEWEST_PROBLEMS:
        raise UserError(
            f"{fewest} problems in a task are too few to find an optimum: at least {FEWEST_PROBLEMS} are needed"
        )
    level = 1 - (1 - LEVEL) / sum(len(curve.gammas) - 1 for curve in curves)
    differences = [curve.maj[curve.best] - row for curve in curves for row in curve.maj]
    if not any(mean_interval(difference, level).low > 0 for difference in differences):
        needed = min(problems_needed(curve, level) for curve in curves)
        raise UserError(
            f"{fewest} problems per task are too few to find an optimum: no retention ratio is significantly worse "
            f"than the best; by the spread seen here about {needed} are needed"
        )


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
