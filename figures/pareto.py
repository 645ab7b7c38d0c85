"""Effectiveness against efficiency: avg@k with its interval, and what it costs in seconds and in tokens.

At equal retention all pruners cost nearly the same: against cost, their points stand in a column and their intervals
would cover each other. The upper panels therefore give every method a row, sorted by accuracy, with its interval and
its seconds; the lower one places accuracy against tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from bench.results import ResultRow, Results
from figures.style import (
    FAINT,
    INK,
    MUTED,
    NAME_POINTS,
    WIDTH_INCHES,
    caption,
    dot,
    interval,
    legend,
    names_margin,
    new_figure,
    rows_of,
    spread,
    text_inches,
    theme,
)

REFERENCES = ("none", "potential")
ROW_INCHES, NAME_INCHES = 0.165, 1.12 * NAME_POINTS / 72
TOP, GAP, FOOT = 0.42, 0.50, 0.82
LEADER_INCHES, PAD_INCHES = 0.16, 0.06


def pareto(results: Results, task: str = "all") -> Figure:
    """The figure of one task. Raises ValueError for a task without results."""
    rows = rows_of(results, task)
    strip_inches = ROW_INCHES * len(rows)
    scatter_inches = max(1.6, NAME_INCHES * (len(rows) + 3))
    height = TOP + strip_inches + GAP + scatter_inches + FOOT
    with theme():
        figure = new_figure(height)
        margin, gap, seconds_wide, right = names_margin(rows), 0.05, 0.20, 0.03
        bottom, tall = (FOOT + scatter_inches + GAP) / height, strip_inches / height
        accuracy = figure.add_axes((margin, bottom, 1 - margin - gap - seconds_wide - right, tall))
        seconds = figure.add_axes((1 - right - seconds_wide, bottom, seconds_wide, tall))
        scatter = figure.add_axes((0.115, FOOT / height, 1 - 0.115 - right, scatter_inches / height))
        figure.suptitle(caption(rows, task), x=0.02, y=1 - 0.08 / height, ha="left", va="top", fontsize=7.5)
        ordered = sorted(rows, key=lambda row: (not math.isnan(row.avg_at_k), row.avg_at_k))
        _accuracy(accuracy, ordered)
        _seconds(seconds, ordered)
        _scatter(scatter, rows, scatter_inches)
        legend(figure, rows, 0.36 / height)
    return figure


def _within(rows: Sequence[ResultRow]) -> list[float]:
    """The accuracies, with intervals, that an axis must hold. The oracle is far out and would squeeze the others."""
    shown = [row for row in rows if row.method != "oracle"] or list(rows)
    ends = [v for row in shown for v in (row.avg_at_k, row.avg_at_k_low, row.avg_at_k_high) if not math.isnan(v)]
    return ends or [0.0, 100.0]


def _rows_axis(ax: Axes, ordered: Sequence[ResultRow]) -> None:
    ax.set_ylim(-0.6, len(ordered) - 0.4)
    ax.set_yticks(range(len(ordered)), [row.method for row in ordered])
    ax.tick_params(axis="y", length=0, pad=2)
    ax.grid(visible=False, axis="y")


def _accuracy(ax: Axes, ordered: Sequence[ResultRow]) -> None:
    low, high = min(_within(ordered)), max(_within(ordered))
    margin = 0.05 * max(high - low, 1.0)
    ax.set_xlim(max(low - margin, -1.0), min(high + margin, 101.0))
    _rows_axis(ax, ordered)
    ax.set_xlabel("avg@k (%), 95 % interval", labelpad=2)
    _references(ax, [row for row in ordered if row.method in REFERENCES and not math.isnan(row.avg_at_k)])
    for y, row in enumerate(ordered):
        interval(ax, row.avg_at_k, row.avg_at_k_low, row.avg_at_k_high, y, row.quadrant)


def _references(ax: Axes, rows: Sequence[ResultRow]) -> None:
    """Dashed lines through the panel with their names above it, kept from touching."""
    left, right = ax.get_xlim()
    per_inch = (right - left) / (ax.get_position().width * WIDTH_INCHES)
    widest = max((text_inches(row.method, NAME_POINTS) for row in rows), default=0.0)
    edge = widest / 2 * per_inch
    names_x = spread([row.avg_at_k for row in rows], (widest + PAD_INCHES) * per_inch, left, right - edge)
    for row, name_x in zip(rows, names_x, strict=True):
        ax.axvline(row.avg_at_k, color=MUTED, linewidth=0.7, linestyle=(0, (3, 2)), zorder=1)
        ax.annotate(
            row.method, (name_x, 1), xycoords=("data", "axes fraction"), xytext=(0, 1.5), textcoords="offset points",
            ha="center", va="bottom", fontsize=NAME_POINTS, color=MUTED,
        )  # fmt: skip


def _seconds(ax: Axes, ordered: Sequence[ResultRow]) -> None:
    """Launch and Check, per problem; from 0, so that lengths compare."""
    totals = [row.launch_seconds + row.check_seconds for row in ordered]
    largest = max((total for total in totals if not math.isnan(total)), default=1.0)
    ax.set_xlim(0, 1.12 * max(largest, 1e-9))
    ax.xaxis.set_major_locator(MaxNLocator(2, steps=[1, 2, 5, 10]))
    _rows_axis(ax, ordered)
    ax.tick_params(axis="y", labelleft=False)
    ax.set_xlabel("launch + check\n(s per problem)", labelpad=2, linespacing=1.0)
    for y, (row, total) in enumerate(zip(ordered, totals, strict=True)):
        if not math.isnan(total):
            ax.plot([0, total], [y, y], color=FAINT, linewidth=0.9)
        interval(ax, total, math.nan, math.nan, y, row.quadrant)


def _scatter(ax: Axes, rows: Sequence[ResultRow], tall_inches: float) -> None:
    """Accuracy against tokens. Points of nearly equal cost share one column of names to their right."""
    points = [row for row in rows if not (math.isnan(row.tokens) or math.isnan(row.avg_at_k))]
    ax.set_xlabel("tokens per problem", labelpad=2)
    ax.set_ylabel("avg@k (%)", labelpad=2)
    if not points:
        ax.annotate("not measured", (0.5, 0.5), xycoords="axes fraction", ha="center", color=MUTED)
        return
    centres = [row.avg_at_k for row in points if row.method != "oracle"] or [row.avg_at_k for row in points]
    margin = 0.12 * max(max(centres) - min(centres), 10.0)
    bottom, top = min(centres) - margin, max(centres) + 1.6 * margin
    ax.set_ylim(bottom, top)
    ax.xaxis.set_major_formatter(FuncFormatter(_thousands))
    ax.xaxis.set_major_locator(MaxNLocator(6))
    ax.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    wide_inches = ax.get_position().width * WIDTH_INCHES
    names = {row.method: _name(row, top) for row in points}
    needed = {row.method: LEADER_INCHES + text_inches(names[row.method], NAME_POINTS) + PAD_INCHES for row in points}
    per_inch = max(*(row.tokens for row in points), 1e-9) / (wide_inches - max(needed.values()))
    ax.set_xlim(0, per_inch * wide_inches)
    groups: list[list[ResultRow]] = []
    for row in sorted(points, key=lambda row: row.tokens):
        if groups:
            group_end = max(r.tokens for r in groups[-1]) + per_inch * max(needed[r.method] for r in groups[-1])
            if row.tokens - 0.05 * per_inch < group_end:
                groups[-1].append(row)
                continue
        groups.append([row])
    step = NAME_INCHES * (top - bottom) / tall_inches
    for group in groups:
        column = max(row.tokens for row in group) + LEADER_INCHES * per_inch
        inside = [min(row.avg_at_k, top - step / 2) for row in group]
        heights = spread(inside, step, bottom + 0.6 * step, top - 0.6 * step)
        for row, y, name_y in zip(group, inside, heights, strict=True):
            ax.plot([row.tokens, column], [y, name_y], color=FAINT, linewidth=0.6, zorder=2)
            dot(ax, row.tokens, y, row.quadrant)
            ax.annotate(
                names[row.method], (column, name_y), (1.5, 0), textcoords="offset points", va="center_baseline",
                fontsize=NAME_POINTS, color=INK,
            )  # fmt: skip


def _name(row: ResultRow, top: float) -> str:
    """The method; with its accuracy where the point lies above the panel and is drawn at its edge."""
    return f"{row.method} (↑ {row.avg_at_k:.0f} %)" if row.avg_at_k > top else row.method


def _thousands(value: float, _position: int) -> str:
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"
