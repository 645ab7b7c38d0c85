"""Which pruner and which retention ratio for these problems, and is it worth it: chosen and measured on other problems.

Every candidate (method, prefix length, retention ratio) spends the same budget as keeping all paths. The best one of a
random half of the problems is measured on the other half, many times over, so that the gain that is stated is that of
*choosing like this*, without a winner's curse.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from prunebench.bench.errors import UserError
from prunebench.bench.evaluation.statistics import PERCENT, POINTS, POWER, Interval, mean_interval
from prunebench.bench.files import Document
from prunebench.bench.guideline.diagnosis import Diagnosis, diagnosed
from prunebench.bench.guideline.sweep import Sweep, SweepCell

Array = NDArray[np.float64]
HALVINGS = 200
FEWEST_TO_RECOMMEND = 20
"""With fewer evaluated problems nothing is recommended."""
CROSS_FITTED = 0.995
"""Level of the t interval of a gain whose choice was made on other problems. The halves share most of their choices: at
0.95 it held the true gain in 79 to 94 % of simulations (20 to 80 problems, 4 to 30 candidates), at this level in 95 to
99 %."""
CONTROLS = ("random",)


class Choice(BaseModel):
    """A method that keeps k of N paths after ``prefix`` tokens; ``cost`` in generator tokens per problem."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str
    prefix: int
    gamma: float
    n: int
    k: int
    cost: float


class Recommendation(Document):
    """What to do on these problems, and what that rests on. Gains in points of maj@k.

    ``gain``: the choice of one half of the problems, measured on the other half, over keeping all at equal cost.
    ``cheaper``: by share of the budget, the same choice with that share, over keeping all with the whole budget.
    ``at_hand``: the gain of the final choice on the problems that chose it, biased upwards. ``diagnosis``: what entropy
    and the states tell of this model's errors, where both were looked at.
    """

    KIND = "recommendation"
    COMMAND = "prunebench advise --task TASK"

    schema_version: Literal[1] = 1
    command: str
    model: str
    tasks: list[str]
    problems: int
    stored_paths: int
    budget: float
    none: Interval
    none_paths: int
    choice: Choice
    gain: Interval
    at_hand: float
    chance: Interval
    cheaper: dict[str, Interval]
    agreement: float
    needed: int | None
    candidates: int
    diagnosis: Diagnosis | None = None

    @property
    def worth_it(self) -> bool:
        """Whether a gain is established."""
        return self.problems >= FEWEST_TO_RECOMMEND and self.gain.low > 0

    def lines(self) -> list[str]:
        """The recommendation in sentences."""
        c = self.choice
        what = f"{c.method}: sample N = {c.n} paths, keep k = {c.k} after {c.prefix} tokens (gamma = {c.gamma:.3g})"
        said = [
            f"on {self.problems} problems ({', '.join(self.tasks)}), {self.budget:,.0f} generator tokens per problem:",
            f"  keep all of N = {self.none_paths}: maj@N {_points(self.none)}",
            f"  the best of {self.candidates} pairs of a method and a ratio, chosen on other problems than measured: "
            f"{_points(self.gain, sign=True)} over keeping all at the same cost",
            *(f"  the same for {share} of that cost: {_points(gain, sign=True)} over keeping all at the whole cost"
              for share, gain in self.cheaper.items()),
            *([] if math.isnan(self.chance.mean) else
              [f"  random pruning at the same ratio: {_points(self.chance, sign=True)}"]),
            *([f"  {self.diagnosis.line()}"] if self.diagnosis else []),
        ]  # fmt: skip
        if self.problems < FEWEST_TO_RECOMMEND:
            return [
                *said,
                f"{self.problems} problems are too few to conclude anything: no recommendation below "
                f"{FEWEST_TO_RECOMMEND}, and some dozens are needed to find a gain",
            ]
        if self.worth_it:
            return [
                *said,
                f"PRUNE: {what}",
                f"  how firm that choice is: {self.agreement:.0%} of {2 * HALVINGS} random halves of these problems "
                "choose this method",
            ]
        more = f"; about {self.needed:,} such problems would establish a gain of this size" if self.needed else ""
        return [
            *said,
            f"DO NOT PRUNE HERE on this evidence: no gain is established{more}",
            f"  the best on these problems was {what}",
        ]


def recommend(sweep: Sweep, budget: float, command: str = "") -> Recommendation:
    """The recommendation at ``budget``, which the sweep must hold, with its smaller budgets for the saving.

    Raises UserError for a sweep without a candidate.
    """
    table = {_key(cell): cell for cell in sweep.cells if cell.budget == budget}
    first = sweep.cells[0]
    base = [table[first.method, first.prefix, 1.0, task] for task in sweep.tasks]  # the same for all methods
    none = _of(base)
    keys = sorted({(m, p, g) for m, p, g, _ in table if g < 1})
    everything = {key: _of([table[(*key, task)] for task in sweep.tasks]) for key in keys}
    rivals = [key for key in keys if key[0] not in CONTROLS]
    if not rivals:
        raise UserError("the sweep holds no method to choose from; name one with --methods")
    majs = np.array([everything[key] for key in rivals])
    chosen, agreement = _halved(majs, [key[0] for key in rivals])
    best = rivals[int(np.argmax(majs.mean(axis=1)))]
    cells = [table[(*best, task)] for task in sweep.tasks]
    picked = (chosen * majs).sum(axis=0) - none
    chance = next(
        (everything[key] for key in keys if key[0] in CONTROLS and key[1:] == best[1:]), np.full_like(none, np.nan)
    )
    return Recommendation(
        command=command,
        model=sweep.model,
        tasks=sweep.tasks,
        problems=len(none),
        stored_paths=sweep.stored_paths,
        budget=budget,
        none=mean_interval(100 * none, bounds=PERCENT),
        none_paths=round(float(np.mean([cell.n for cell in base]))),
        choice=Choice(method=best[0], prefix=best[1], gamma=best[2], **_size(cells)),
        gain=mean_interval(100 * picked, CROSS_FITTED, POINTS),
        at_hand=100 * float((everything[best] - none).mean()),
        chance=mean_interval(100 * (chance - none), bounds=POINTS),
        cheaper=_cheaper(sweep, budget, rivals, chosen, none),
        agreement=agreement[best[0]],
        needed=_needed(picked),
        candidates=len(rivals),
        diagnosis=diagnosed(sweep, best[1]),
    )


def _size(cells: list[SweepCell]) -> dict[str, Any]:
    """N, k and cost, means over the tasks: a budget pays for more paths where they are short."""
    means = np.mean([(cell.n, cell.k, cell.cost) for cell in cells], axis=0)
    return {"n": round(float(means[0])), "k": round(float(means[1])), "cost": float(means[2])}


def _key(cell: SweepCell) -> tuple[str, int, float, str]:
    return cell.method, cell.prefix, cell.gamma, cell.task


def _of(cells: list[SweepCell]) -> Array:
    """maj@k of every problem, task after task."""
    return np.concatenate([np.array(cell.maj, np.float64) for cell in cells])


def _halved(majs: Array, methods: list[str], seed: int = 0) -> tuple[Array, dict[str, float]]:
    """(candidates, problems): how often a candidate was the choice of a half without the problem; and by method."""
    rng = np.random.default_rng(seed)
    count = majs.shape[1]
    weights, votes = np.zeros_like(majs), dict.fromkeys(methods, 0.0)
    for _ in range(HALVINGS):
        order = rng.permutation(count)
        for half, other in ((order[: count // 2], order[count // 2 :]), (order[count // 2 :], order[: count // 2])):
            best = int(np.argmax(majs[:, half].mean(axis=1))) if len(half) else 0
            weights[best, other] += 1 / HALVINGS
            votes[methods[best]] += 1 / (2 * HALVINGS)
    return weights, votes


def _cheaper(
    sweep: Sweep, budget: float, rivals: list[tuple[str, int, float]], chosen: Array, none: Array
) -> dict[str, Interval]:
    gains = {}
    for smaller in sorted({cell.budget for cell in sweep.cells if cell.budget < budget}, reverse=True):
        table = {_key(cell): cell for cell in sweep.cells if cell.budget == smaller}
        majs = np.array([_of([table[(*key, task)] for task in sweep.tasks]) for key in rivals])
        gains[f"{smaller / budget:.0%}"] = mean_interval(
            100 * ((chosen * majs).sum(axis=0) - none), CROSS_FITTED, POINTS
        )
    return gains


def _needed(gains: Array) -> int | None:
    """Problems that establish the gain four times in five: (z s / gain)^2; None without a gain."""
    mean, normal = float(gains.mean()), NormalDist()
    z = normal.inv_cdf((1 + CROSS_FITTED) / 2) + normal.inv_cdf(POWER)
    return math.ceil((z * float(gains.std(ddof=1)) / mean) ** 2) if mean > 0 and len(gains) > 1 else None


def _points(value: Interval, sign: bool = False) -> str:
    form = "+.1f" if sign else ".1f"
    interval = "" if math.isnan(value.low) else f" [{value.low:{form}}, {value.high:{form}}]"
    return f"{value.mean:{form}} points{interval}"
