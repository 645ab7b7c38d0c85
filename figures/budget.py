"""What a budget buys: maj@k|N against total cost, at gamma = 1/2 (STOP paper, Figure 4) and by the guideline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from prunebench.bench.evaluation.results import QuadrantName
from prunebench.bench.evaluation.statistics import PERCENT, Interval, mean_interval
from prunebench.bench.files import csv_text
from prunebench.bench.guideline.guideline import Guideline
from prunebench.bench.guideline.sweep import Sweep, SweepCell
from prunebench.figures.registry import Drawing, figure
from prunebench.figures.run_folder import RunFolder
from prunebench.figures.style import (
    INK,
    MUTED,
    NAME_POINTS,
    QUADRANTS,
    WIDTH_INCHES,
    new_figure,
    spread,
    theme,
    thousands,
)
from prunebench.figures.taxonomy import registered

HEIGHT, TOP, FOOT, LEFT, NAMES, NOTE = 2.2, 0.36, 0.42, 0.38, 0.78, 0.13
HALF, GUIDELINE, ALL = "gamma = 1/2", "guideline's gamma", "keep all"


@dataclass(frozen=True)
class Spent:
    """A method at one budget: what it spent per problem (mean over tasks' problems), and what the vote was worth."""

    panel: str
    method: str
    budget: float
    cost: float
    maj: Interval


def spent(sweep: Sweep, guidelines: Mapping[str, Guideline], prefix: int) -> list[Spent]:
    """Both panels' points at one prefix length. A method has a line in the second panel if its guideline prunes."""
    points = []
    for method in sweep.methods:
        for budget in sorted({cell.budget for cell in sweep.cells}):
            cells = [c for c in sweep.cells if (c.method, c.prefix, c.budget) == (method, prefix, budget)]
            points += _pooled(HALF, method, budget, _nearest(cells, lambda _: 0.5), len(sweep.tasks))
            if method in guidelines and _prunes(guidelines[method]):
                guideline = guidelines[method]

                def gamma(task: str, law: Guideline = guideline, budget: float = budget) -> float:
                    return 1 / max(1.0, law.inverse_gamma(law.best_form, budget, prefix, sweep.lengths[task]))

                points += _pooled(GUIDELINE, method, budget, _nearest(cells, gamma), len(sweep.tasks))
            if method == sweep.methods[0]:
                whole = _nearest(cells, lambda _: 1.0)
                for panel in (HALF, GUIDELINE):
                    points += _pooled(panel, ALL, budget, whole, len(sweep.tasks))
    return points


@figure(
    "budget", "Accuracy of the vote against the total cost, at 1/2 and at the guideline's ratio.",
    needs="prunebench sweep", place=60,
)  # fmt: skip
def draw(run: RunFolder) -> Drawing:
    prefixes = sorted({cell.prefix for cell in run.sweep.cells})
    parts = (run.sweep, run.guidelines, prefixes[(len(prefixes) - 1) // 2])
    quadrants = {method.name: method.quadrant for method in registered()}
    return Drawing(budget(*parts, quadrants), budget_csv(*parts))


def _prunes(guideline: Guideline) -> bool:
    """Whether it gains on held-out problems; else its answer is to keep all."""
    return guideline.gain(guideline.best_form).low > 0


def _nearest(cells: list[SweepCell], gamma: Callable[[str], float]) -> list[SweepCell]:
    """Per task the cell whose ratio is nearest to the wanted one, unless the stored paths could not pay for it."""
    chosen = []
    for task in dict.fromkeys(cell.task for cell in cells):
        of_task = [cell for cell in cells if cell.task == task]
        best = min(of_task, key=lambda cell: abs(np.log(cell.gamma / gamma(cell.task))))
        chosen += [] if best.capped else [best]
    return chosen


def _pooled(panel: str, method: str, budget: float, cells: list[SweepCell], tasks: int) -> list[Spent]:
    if len(cells) < tasks:
        return []
    maj = mean_interval(100 * np.concatenate([cell.maj for cell in cells]), bounds=PERCENT)
    cost = float(np.average([cell.cost for cell in cells], weights=[len(cell.maj) for cell in cells]))
    return [Spent(panel, method, budget, cost, maj)]


def budget_csv(sweep: Sweep, guidelines: Mapping[str, Guideline], prefix: int) -> str:
    """A line per point."""
    columns = ("panel", "method", "prefix", "budget", "cost", "maj_at_k", "low", "high")
    rows = ((p.panel, p.method, prefix, p.budget, p.cost, p.maj.mean, p.maj.low, p.maj.high)
            for p in spent(sweep, guidelines, prefix))  # fmt: skip
    return csv_text(columns, rows)


def budget(
    sweep: Sweep, guidelines: Mapping[str, Guideline], prefix: int, quadrants: Mapping[str, QuadrantName]
) -> Figure:
    """Two panels; keeping all at the same cost is the grey line that pruning has to beat.

    Raises ValueError where no method could spend two budgets.
    """
    points = spent(sweep, guidelines, prefix)
    if len({point.budget for point in points}) < 2:
        raise ValueError(f"fewer than two budgets of the sweep could be spent at a prefix of {prefix} tokens")
    wide = (WIDTH_INCHES - LEFT - NAMES - 0.10) / 2
    low, high = min(p.maj.mean for p in points) - 2, max(p.maj.mean for p in points) + 2
    costs = [p.cost for p in points]
    unnamed = sorted({p.method for p in points} - {p.method for p in points if p.panel == GUIDELINE})
    top = TOP + (NOTE if unnamed else 0.0)
    height = HEIGHT - TOP + top
    with theme():
        figure = new_figure(height)
        figure.text(0.02, 1 - 0.05 / height, f"maj@k|N against cost, L = {prefix}", va="top", fontsize=7.5)
        for index, (panel, title) in enumerate(((HALF, "γ = 1/2"), (GUIDELINE, "guideline's γ"))):
            left = (LEFT + index * (wide + 0.10)) / WIDTH_INCHES
            ax = figure.add_axes((left, FOOT / height, wide / WIDTH_INCHES, 1 - (FOOT + top) / height))
            ax.set_xscale("log", base=2)
            ax.set(xlim=(min(costs) / 1.25, max(costs) * 1.25), ylim=(low, high))
            ax.xaxis.set_major_locator(FixedLocator([1024.0 * 4**i for i in range(8)]))
            ax.xaxis.set_minor_locator(NullLocator())
            ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: thousands(x / 1024 * 1000)))
            ax.tick_params(pad=1, length=0)
            if index:
                ax.set_yticklabels([])
            ax.set_title(title, fontsize=7, pad=2, loc="left")
            ends = {}
            for method in dict.fromkeys(p.method for p in points if p.panel == panel):
                line = [p for p in points if (p.panel, p.method) == (panel, method)]
                style = QUADRANTS[quadrants.get(method, "control")]
                color = INK if method == ALL else style.color
                ax.plot([p.cost for p in line], [p.maj.mean for p in line], color=color, marker=style.marker,
                        markersize=2.6, linestyle="--" if method == ALL else "-", linewidth=0.8)  # fmt: skip
                ends[method] = line[-1].maj.mean
            if index and ends:
                order = sorted(ends, key=lambda name: ends[name])
                gap = (high - low) * 0.105 / (HEIGHT - FOOT - TOP)
                for name, y in zip(order, spread([ends[n] for n in order], gap, low, high), strict=True):
                    color = INK if name == ALL else QUADRANTS[quadrants.get(name, "control")].color
                    ax.annotate(name, (1.04, (y - low) / (high - low)), xycoords="axes fraction", va="center",
                                fontsize=NAME_POINTS, color=color)  # fmt: skip
        if unnamed:
            figure.text(0.02, 1 - (0.05 + NOTE) / height, _unnamed(unnamed, guidelines), va="top",
                        fontsize=NAME_POINTS, color=MUTED)  # fmt: skip
        figure.text((LEFT + wide) / WIDTH_INCHES, 0.05 / height, "generator tokens per problem", ha="center",
                    fontsize=7)  # fmt: skip
        figure.text(0.03, (FOOT + (HEIGHT - FOOT - TOP) / 2) / height, "maj@k|N, %", rotation=90, ha="center",
                    va="center", fontsize=7, color=MUTED)  # fmt: skip
    return figure


def _unnamed(methods: list[str], guidelines: Mapping[str, Guideline]) -> str:
    """Why methods have no line of a guideline."""
    whole = [name for name in methods if name in guidelines]
    without = [name for name in methods if name not in guidelines]
    parts = (("keep all instead of", whole), ("no guideline", without))
    return "; ".join(f"{said}: {', '.join(names)}" for said, names in parts if names)
