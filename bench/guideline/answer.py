"""The guideline's answer to one question: how many paths, how many kept, by which method, and is it worth it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from prunebench.bench.errors import UserError
from prunebench.bench.evaluation.statistics import Interval
from prunebench.bench.guideline.curves import Optimum
from prunebench.bench.guideline.forms import Form
from prunebench.bench.guideline.guideline import Guideline
from prunebench.bench.guideline.paper_law import PAPER

MARGIN = 0.05
"""So far outside the measured range (as a share) a question is still answered: rounding, not extrapolation."""


@dataclass(frozen=True)
class Advice:
    """N paths, k of them kept. ``gain``: points of maj@k|N over keeping all at the same budget, on held-out problems.

    ``nearest`` is the measured cell nearby with its best ratio, chosen on the very problems that its gain rests on.
    ``whole``: as many paths as the budget pays to their end, which is the answer where pruning does not pay.
    ``form`` is the one with the least regret on held-out problems; ``others``: gains of methods that gained less;
    ``paper`` says what the paper's constants give.
    """

    method: str
    form: Form
    gamma: float
    n: int
    k: int
    gain: Interval
    nearest: Optimum
    regret: Interval
    paper: str
    rests_on: str
    whole: int
    others: Mapping[str, Interval] = field(default_factory=dict)

    @property
    def gains(self) -> bool:
        """Whether following it is worth it."""
        return self.gain.low > 0

    def lines(self) -> list[str]:
        """In words, the answer first."""
        sign = "gained" if self.gain.mean >= 0 else "lost"
        near = self.nearest.gain
        ratio = f"N = {self.n} prefixes, keep k = {self.k} (gamma = {self.gamma:.3g}) by {self.method}"
        return [
            f"sample {ratio}"
            if self.gains
            else f"do not prune by {self.method}: sample N = {self.whole} whole paths and keep all",
            *([] if self.gains else [f"its best ratio is no gain to count on ({ratio})"]),
            f"on held-out problems, mean of all budgets and lengths, following it {sign} {abs(self.gain.mean):.1f} "
            f"points [{self.gain.low:+.1f}, {self.gain.high:+.1f}] over keeping all at the same budget",
            *self._beaten(),
            f"measured nearby (prefix {self.nearest.prefix}, budget {self.nearest.budget:g}, {self.nearest.task}): "
            f"gamma = {self.nearest.gamma:.3g} was best, {near.mean:+.1f} points [{near.low:+.1f}, {near.high:+.1f}] "
            "over keeping all, chosen on the same problems and so a little too good",
            f"the {self.form} form; following it lost {self.regret.mean:.1f} [{self.regret.low:.1f}, "
            f"{self.regret.high:.1f}] points against the best ratio on held-out problems",
            f"rests on {self.rests_on}",
            f"paper's constants: {self.paper}",
        ]

    def _beaten(self) -> list[str]:
        """The gains of the others, to see by how little the best one is ahead."""
        if not self.others:
            return []
        gains = ", ".join(
            f"{name} {gain.mean:+.1f} [{gain.low:+.1f}, {gain.high:+.1f}]" for name, gain in self.others.items()
        )
        return [f"the largest gain of {1 + len(self.others)} methods, which is partly luck; the others: {gains}"]


def advise(
    guidelines: Sequence[Guideline], budget: float, prefix: float, task_length: float, method: str | None = None
) -> Advice:
    """The answer for a budget, a prefix length and a mean path length, in tokens.

    Without a ``method`` the one whose guideline gained most on held-out problems. Raises UserError outside the measured
    range and for a ratio above 1.
    """
    chosen = [guideline for guideline in guidelines if method in (None, guideline.method)]
    if not chosen:
        raise UserError(f"no guideline of method '{method}': there are {', '.join(g.method for g in guidelines)}")
    if prefix > task_length:
        raise UserError(f"--prefix {prefix:,.0f}: longer than the mean path of {task_length:,.0f} tokens")
    for guideline in chosen[:1]:
        for name, value, measured in (
            ("budget", budget, guideline.budgets), ("prefix", prefix, guideline.prefixes),
            ("task-length", task_length, list(guideline.lengths.values())),
        ):  # fmt: skip
            low, high = min(measured) * (1 - MARGIN), max(measured) * (1 + MARGIN)
            if not low <= value <= high:
                raise UserError(
                    f"--{name} {value:,.0f}: the guideline of {guideline.model} was measured from {min(measured):,.0f} "
                    f"to {max(measured):,.0f} tokens and does not extrapolate; sweep such lengths: prunebench sweep"
                )
    ranked = sorted(chosen, key=lambda guideline: -guideline.gain(guideline.best_form).mean)
    best = ranked[0]
    form = best.best_form
    inverse = best.inverse_gamma(form, budget, prefix, task_length)
    if inverse < 1:
        raise UserError(
            f"1/gamma = {inverse:.2g} by the {form} form of {best.model}: a retention ratio above 1; at this budget do "
            "not prune"
        )
    gamma = 1 / inverse
    if gamma < min(best.gammas) * (1 - MARGIN):
        raise UserError(
            f"gamma = {gamma:.2g} by the {form} form of {best.model}: below {min(best.gammas):g}, the smallest ratio "
            "that was swept; sweep smaller ones with: prunebench sweep --set gamma=RATIOS"
        )
    n = max(1, math.floor(budget / (prefix + gamma * (task_length - prefix))))
    where = nearest(best, budget, prefix, task_length)
    problems = ", ".join(f"{count} of {task}" for task, count in best.problems.items())
    return Advice(
        method=best.method,
        form=form,
        gamma=gamma,
        n=n,
        k=max(1, round(gamma * n)),
        whole=max(1, math.floor(budget / task_length)),
        gain=best.gain(form),
        nearest=where,
        regret=best.regret(form),
        paper=_paper(budget, prefix, task_length),
        others={other.method: other.gain(other.best_form) for other in ranked[1:]},
        rests_on=f"{problems}; {best.stored_paths} stored paths of {best.model}, {best.draws} draws",
    )


def nearest(guideline: Guideline, budget: float, prefix: float, task_length: float) -> Optimum:
    """The measured cell that is nearest on logarithmic scales."""

    def away(optimum: Optimum) -> float:
        pairs = ((optimum.budget, budget), (optimum.prefix, prefix), (optimum.task_length, task_length))
        return sum(math.log(a / b) ** 2 for a, b in pairs)

    return min(guideline.optima, key=away)


def _paper(budget: float, prefix: float, task_length: float) -> str:
    try:
        gamma = PAPER.gamma(budget, prefix, task_length)
    except UserError as error:
        return f"refused: {error}"
    n = math.floor(budget / (prefix + gamma * (task_length - prefix)))
    if gamma * n < 1:
        return (
            f"gamma = {gamma:.2g}, which keeps no path of N = {n}; they were fitted at mean paths of 8,650 and "
            "11,950 tokens"
        )
    return f"gamma = {gamma:.3g}, N = {n}, k = {gamma * n:.0f}"
