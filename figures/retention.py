"""Accuracy of the vote against the retention ratio, by prefix length and budget (STOP paper, Figures 5 and 9)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from prunebench.bench.evaluation.statistics import PERCENT, Interval, mean_interval
from prunebench.bench.files import csv_text
from prunebench.bench.guideline.sweep import Sweep
from prunebench.figures.registry import Drawing, figure
from prunebench.figures.run_folder import SHOWN, RunFolder
from prunebench.figures.style import FAINT, INK, MUTED, WIDTH_INCHES, new_figure, theme, thousands

BUDGET_COLORS = ("#C9D8E8", "#8FB3D3", "#4F86B5", "#1F5A8C", "#0B2F52", "#000000")
"""From small to large budgets, light to dark: an order that also shows in grey."""
HEIGHT, TOP, FOOT, LEFT = 1.95, 0.34, 0.62, 0.40


@dataclass(frozen=True)
class RetentionPoint:
    """maj@k|N, 0 to 100, of one prefix, budget and ratio, with its interval over the problems of all tasks."""

    prefix: int
    budget: float
    gamma: float
    maj: Interval
    problems: int


@figure(
    "retention", "Accuracy of the vote over the retention ratio, by prefix length and budget.",
    needs="prunebench sweep", place=70,
)  # fmt: skip
def draw(run: RunFolder) -> Drawing:
    method = SHOWN if SHOWN in run.sweep.methods else run.sweep.methods[0]
    return Drawing(retention(run.sweep, method), retention_csv(run.sweep, method))


def retention_points(sweep: Sweep, method: str) -> list[RetentionPoint]:
    """The tasks pooled, problem by problem; only cells in which every task could spend the budget."""
    groups: dict[tuple[int, float, float], list[list[float]]] = {}
    for cell in sweep.cells:
        if cell.method == method and not cell.capped:
            groups.setdefault((cell.prefix, cell.budget, cell.gamma), []).append(cell.maj)
    points = []
    for (prefix, budget, gamma), parts in groups.items():
        if len(parts) == len(sweep.tasks):
            values = 100 * np.concatenate(parts)
            points.append(RetentionPoint(prefix, budget, gamma, mean_interval(values, bounds=PERCENT), len(values)))
    return points


def retention_csv(sweep: Sweep, method: str) -> str:
    """A line per point."""
    columns = ("method", "prefix", "budget", "gamma", "maj_at_k", "low", "high", "problems")
    rows = ((method, p.prefix, p.budget, p.gamma, p.maj.mean, p.maj.low, p.maj.high, p.problems)
            for p in retention_points(sweep, method))  # fmt: skip
    return csv_text(columns, rows)


def retention(sweep: Sweep, method: str) -> Figure:
    """A panel per prefix length, a line per budget; the best ratio is ringed, with its interval as a bar.

    Raises ValueError where no budget could be spent in all tasks.
    """
    points = retention_points(sweep, method)
    if not points:
        raise ValueError(f"no budget of the sweep could be spent by '{method}' in all tasks")
    prefixes = sorted({point.prefix for point in points})
    budgets = sorted({point.budget for point in points})
    colors = dict(zip(budgets, BUDGET_COLORS[-len(budgets) :], strict=True))
    wide = (WIDTH_INCHES - LEFT - 0.06 - 0.08 * (len(prefixes) - 1)) / len(prefixes)
    low, high = min(p.maj.mean for p in points), max(np.nanmax([p.maj.mean, p.maj.high]) for p in points)
    with theme():
        figure = new_figure(HEIGHT)
        figure.text(0.02, 1 - 0.05 / HEIGHT, f"{method}: {points[0].problems} problems, pools drawn from "
                    f"{sweep.stored_paths} paths", va="top", fontsize=7.5)  # fmt: skip
        for index, prefix in enumerate(prefixes):
            left = (LEFT + index * (wide + 0.08)) / WIDTH_INCHES
            ax = figure.add_axes((left, FOOT / HEIGHT, wide / WIDTH_INCHES, 1 - (FOOT + TOP + 0.14) / HEIGHT))
            ax.set_xscale("log", base=2)
            ax.set(xlim=(min(p.gamma for p in points) / 1.3, 1.3), ylim=(low - 2, min(100, high + 2)))
            ax.xaxis.set_major_locator(FixedLocator([1 / 32, 1 / 8, 1 / 2]))
            ax.xaxis.set_minor_locator(NullLocator())
            ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"1/{1 / x:.0f}" if x < 1 else "1"))
            ax.tick_params(pad=1, length=0)
            if index:
                ax.set_yticklabels([])
            ax.set_title(f"L = {prefix}", fontsize=7, pad=2, loc="left")
            for budget in budgets:
                _curve(ax, [p for p in points if (p.prefix, p.budget) == (prefix, budget)], colors[budget])
        figure.text(0.5, 0.31 / HEIGHT, "retention ratio γ = k / N", ha="center", fontsize=7)
        figure.text(0.03, (FOOT + (HEIGHT - FOOT - TOP) / 2) / HEIGHT, "maj@k|N, %", rotation=90, ha="center",
                    va="center", fontsize=7)  # fmt: skip
        handles = [Line2D([], [], color=colors[b], marker="o", markersize=2, label=thousands(b / 1024 * 1000))
                   for b in budgets]  # fmt: skip
        handles.append(Line2D([], [], color=FAINT, marker="o", markerfacecolor="none", markeredgecolor=INK,
                              markersize=4, linestyle="none", label="best"))  # fmt: skip
        figure.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.5, 0.01), ncols=len(handles),
                      handlelength=1.0, handletextpad=0.3, columnspacing=0.8, borderaxespad=0,
                      labelcolor=MUTED)  # fmt: skip
    return figure


def _curve(ax: Axes, points: list[RetentionPoint], color: str) -> None:
    if not points:
        return
    line = sorted(points, key=lambda point: point.gamma)
    ax.plot([p.gamma for p in line], [p.maj.mean for p in line], color=color, marker="o", markersize=2)
    best = max(line, key=lambda point: (point.maj.mean, point.gamma))
    ax.plot([best.gamma] * 2, [best.maj.low, best.maj.high], color=color, linewidth=0.6, alpha=0.6)
    ax.plot([best.gamma], [best.maj.mean], marker="o", markersize=5, markerfacecolor="none", markeredgecolor=INK,
            markeredgewidth=0.7, zorder=5)  # fmt: skip
