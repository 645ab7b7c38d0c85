"""A retention ratio for a budget: laws fitted to a sweep, what they rest on, and what following them costs.

1/gamma = a C^b Lp^c / Lt^d (arXiv 2604.16029, Eq. 7) is fitted by least squares on the logarithms of the measured
optima, beside two rivals: one ratio for all, and a line in the logarithms that never goes below 1/gamma = 1. A law is
fitted on one half of the problems; its regret, the accuracy lost against the best ratio of a cell, is measured on the
other half. C, Lp and Lt are in units of 1,024 tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from prunebench.bench.errors import UserError
from prunebench.bench.evaluation.statistics import FEWEST_PROBLEMS, POINTS, Interval, Number, mean_interval
from prunebench.bench.files import Document
from prunebench.bench.guideline.curves import LEVEL, Curve, Optimum, curves_of, optimum_of, problems_needed
from prunebench.bench.guideline.fits import Fit, fitted
from prunebench.bench.guideline.forms import FORMS, Form, inverse_of
from prunebench.bench.guideline.regret import Regret, regrets_of
from prunebench.bench.guideline.sweep import Sweep

PATTERN = "guideline-*.json"
SWEEP = "sweep.json"


class Guideline(Document):
    """Laws for one method and one model, fitted to one sweep."""

    KIND = "guideline"
    COMMAND = "prunebench sweep --store FOLDER"

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
        return inverse_of(form, [constant.mean for constant in fit.constants.values()], budget, prefix, task_length)

    @property
    def best_form(self) -> Form:
        """The form with the least regret on held-out problems."""
        return min(FORMS, key=lambda form: self.regret(form).mean)

    def regret(self, rule: str) -> Interval:
        """Points lost by a rule on held-out problems."""
        return next(regret.held_out for regret in self.regrets if regret.rule == rule)

    def gain(self, rule: str) -> Interval:
        """Points of a rule over keeping all, on held-out problems."""
        return next(regret.gain for regret in self.regrets if regret.rule == rule)


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
    given, refused = _fitted(sweep)
    for method, guideline in given.items():
        guideline.save(out / f"guideline-{method}.json", indent=1)
    return refused


def _fitted(sweep: Sweep) -> tuple[dict[str, Guideline], dict[str, str]]:
    """The guidelines of all methods but ``random``, and by method why it has none."""
    given, refused = dict[str, Guideline](), dict[str, str]()
    for method in sweep.methods:
        if method != "random":
            try:
                given[method] = guideline_of(sweep, method)
            except UserError as error:
                refused[method] = str(error)
    return given, refused


def read_guidelines(path: Path) -> list[Guideline]:
    """One file, or all of a sweep's folder. Raises UserError where there is none."""
    files = sorted(path.glob(PATTERN)) if path.is_dir() else [path]
    if not files and (path / SWEEP).exists():
        given, refused = _fitted(Sweep.read(path))
        if not given:
            said = "; ".join(dict.fromkeys(refused.values())) or "it swept random choice only"
            raise UserError(f"{path}: its sweep gives no guideline; {said}; make another in a folder of its own")
    if not files:
        raise UserError(f"{path}: no guideline there; make one with: {Guideline.COMMAND} --out {path}")
    return [Guideline.read(file) for file in files]


def too_few(problems: int) -> str | None:
    """Why the sweep of so many problems of a task gives no guideline, or None."""
    if problems >= FEWEST_PROBLEMS:
        return None
    return f"{problems} problems in a task are too few to find an optimum: at least {FEWEST_PROBLEMS} are needed"


def _require_enough(sweep: Sweep, curves: Sequence[Curve]) -> None:
    """An optimum is found where some ratio is significantly worse than the best, counted over all that are compared."""
    fewest = min(len(problems) for problems in sweep.problems.values())
    if (said := too_few(fewest)) is not None:
        raise UserError(said)
    level = 1 - (1 - LEVEL) / sum(len(curve.gammas) - 1 for curve in curves)
    differences = [curve.maj[curve.best] - row for curve in curves for row in curve.maj]
    if not any(mean_interval(100 * difference, level, POINTS).low > 0 for difference in differences):
        needed = min(problems_needed(curve, level) for curve in curves)
        raise UserError(
            f"{fewest} problems per task are too few to find an optimum: no retention ratio is significantly worse "
            f"than the best; by the spread seen here about {needed} are needed"
        )
