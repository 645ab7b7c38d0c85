"""Effectiveness against efficiency: every method is a curve over the number of paths that it keeps.

What lies above the line of whole paths is better at the same price: in tokens, and in the arithmetic of all models, the
judges' included.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from prunebench.bench.evaluation.results import PURE, FrontierRow, QuadrantName, Results, rows_csv
from prunebench.figures.registry import Drawing, figure
from prunebench.figures.run_folder import RunFolder
from prunebench.figures.style import INK, MUTED, NAME_POINTS, QUADRANTS, WIDTH_INCHES, new_figure, theme, thousands

PANEL, TOP, FOOT, LEFT, GAP, RIGHT = 1.30, 0.44, 0.72, 0.38, 0.38, 0.08
HIDDEN = ("potential", "oracle")
"""They know the answers, and would squeeze the others; the data has them."""
ALL = "none"
PANELS = (
    ("maj_at_k", "tokens", "maj@k (%)", "tokens per problem, of all models"),
    ("maj_at_k", "cost", "maj@k (%)", "arithmetic of all models, in generator tokens"),
    ("avg_at_k", "cost", "avg@k (%)", "arithmetic of all models, in generator tokens"),
)
"""Accuracy, cost, and what the axes are called."""
OTHERS = "#D2D2D2"
BAND_EDGES = {"s": (0, (1, 1)), "D": (0, (4, 1)), "o": (0, (4, 1, 1, 1)), "^": "-"}
"""By the marker of a curve: bands that lie on one another stay apart without colour."""


@figure("frontier", "Accuracy over cost, from keeping all paths to keeping one.", place=50)
def draw(run: RunFolder) -> Drawing:
    return Drawing(frontier(run.results), rows_csv(run.results.frontier))


def frontier(results: Results) -> Figure:
    """The figure of the primary task: the vote by both costs, and the accuracy of the kept paths.

    A representative's band is the 95 % interval of its paired difference: to the vote of whole paths at the same cost,
    and to the accuracy of all paths. Raises ValueError for results without a frontier.
    """
    curves: dict[str, list[FrontierRow]] = {}
    for row in results.frontier:
        if row.method not in HIDDEN and not math.isnan(row.cost):
            curves.setdefault(row.method, []).append(row)
    if ALL not in curves:
        raise ValueError("no frontier: none took no part, or its results were written before there was one")
    shown = {
        chosen.method: chosen.quadrant
        for chosen in results.representatives
        if chosen.method in curves and chosen.quadrant in PURE
    }
    height = TOP + len(PANELS) * PANEL + (len(PANELS) - 1) * GAP + FOOT
    with theme():
        drawn = new_figure(height)
        title, note = _captions(results, curves)
        drawn.text(0.02, 1 - 0.06 / height, title, va="top", fontsize=7.5)
        drawn.text(0.02, 1 - 0.22 / height, note, va="top", fontsize=NAME_POINTS, color=MUTED)
        for number, (measure, cost, accuracy, spent) in enumerate(PANELS):
            bottom = height - TOP - (number + 1) * PANEL - number * GAP
            wide = (WIDTH_INCHES - LEFT - RIGHT) / WIDTH_INCHES
            ax = drawn.add_axes((LEFT / WIDTH_INCHES, bottom / height, wide, PANEL / height))
            _panel(ax, curves, shown, measure, cost)
            ax.set_ylabel(accuracy, labelpad=2)
            ax.set_xlabel(spent, labelpad=1)
        _legend(drawn, shown, curves[ALL][0].k, height)
    return drawn


def _captions(results: Results, curves: Mapping[str, Sequence[FrontierRow]]) -> tuple[str, str]:
    """What was run, and how to read it."""
    first = curves[ALL][0]
    prefix = next(row.prefix_tokens for row in results.rows)
    title = "all tasks pooled" if first.task == "all" else first.task
    note = f"from right to left k is halved from {first.k:.0f} to 1; band: 95 % of the difference to none"
    return f"{title}: {first.n_problems} problems, N = {first.k:.0f}, L = {prefix}", note


def _panel(
    ax: Axes,
    curves: Mapping[str, Sequence[FrontierRow]],
    shown: Mapping[str, QuadrantName],
    measure: str,
    cost: str,
) -> None:
    ax.set_xlim(0, 1.03 * max(getattr(row, cost) for curve in curves.values() for row in curve))
    ax.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    ax.xaxis.set_major_formatter(FuncFormatter(thousands))
    ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.tick_params(length=0, pad=2)
    others = [name for name in curves if name not in shown and name != ALL]
    for name in [*others, *shown, ALL]:
        curve = curves[name]
        x, y = [getattr(row, cost) for row in curve], [getattr(row, measure) for row in curve]
        if name == ALL:
            ax.plot(x, y, color=INK, linewidth=1.3, linestyle=(0, (4, 1.5)), zorder=5)
        elif name not in shown:
            alone: dict[str, Any] = {"marker": ".", "markersize": 3} if len(curve) == 1 else {}
            ax.plot(x, y, color=OTHERS, linewidth=0.5, zorder=1, **alone)
        else:
            _representative(ax, curve, x, y, QUADRANTS[shown[name]].color, QUADRANTS[shown[name]].marker, measure, cost)


def _representative(
    ax: Axes,
    curve: Sequence[FrontierRow],
    x: Sequence[float],
    y: Sequence[float],
    color: str,
    marker: str,
    measure: str,
    cost: str,
) -> None:
    gains = [row.avg_gain if measure == "avg_at_k" else getattr(row, f"maj_gain_{cost}") for row in curve]
    low = [value + gain.low - gain.mean for value, gain in zip(y, gains, strict=True)]
    high = [value + gain.high - gain.mean for value, gain in zip(y, gains, strict=True)]
    edge: dict[str, Any] = {"edgecolor": (color, 0.8), "linewidth": 0.5, "linestyle": BAND_EDGES[marker]}
    ax.fill_between(x, low, high, facecolor=(color, 0.07), zorder=2, **edge)
    ax.plot(
        x,
        y,
        color=color,
        marker=marker,
        linewidth=1.1,
        markersize=3.4,
        markeredgecolor="white",
        markeredgewidth=0.4,
        zorder=4,
    )


def _legend(drawn: Figure, shown: Mapping[str, QuadrantName], count: float, height: float) -> None:
    handles = [
        Line2D([], [], color=INK, linewidth=1.3, linestyle=(0, (4, 1.5)), label=f"none: {count:.0f} to 1 whole paths"),
        Line2D([], [], color=OTHERS, linewidth=0.8, label="other methods"),
        *(
            Line2D([], [], color=QUADRANTS[quadrant].color, marker=QUADRANTS[quadrant].marker, markersize=3.6,
                   label=f"{quadrant}: {name}")
            for name, quadrant in shown.items()
        ),
    ]  # fmt: skip
    drawn.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0.34 / height), ncols=3, columnspacing=1.0,
                 handletextpad=0.4, borderaxespad=0.0, fontsize=NAME_POINTS)  # fmt: skip
