"""Effectiveness against efficiency: avg@k with its interval against tokens, and against the seconds of the check.

At equal retention most pruners cost nearly the same number of tokens, and all of them wait for the same Launch: the
second panel therefore shows the seconds that a method adds, on a logarithmic axis. Both panels share one height, so
that one column of names serves both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from prunebench.bench.evaluation.results import ResultRow, Results
from prunebench.bench.files import csv_text
from prunebench.figures.paper.marks import SOURCE, open_marker, published_points
from prunebench.figures.registry import Drawing, figure
from prunebench.figures.run_folder import RunFolder
from prunebench.figures.style import (
    FAINT,
    INK,
    MUTED,
    NAME_POINTS,
    QUADRANTS,
    WIDTH_INCHES,
    caption,
    cost_axis,
    dot,
    legend,
    new_figure,
    rows_of,
    spread,
    text_inches,
    theme,
    thousands,
)

REFERENCES = ("none", "potential")
COLUMNS = ("source", "model", "task", "method", "quadrant", "avg_at_k", "avg_at_k_low", "avg_at_k_high", "delta",
           "tokens", "tokens_percent", "launch_seconds", "check_seconds")  # fmt: skip
NAME_INCHES = 1.12 * NAME_POINTS / 72
TOP, FOOT, LEFT, GAP, LEADER_INCHES = 0.30, 0.84, 0.36, 0.09, 0.16
PUBLISHED_INCHES, PUBLISHED_GAP = 1.25, 0.72


def pareto_csv(results: Results, task: str = "all", paper: bool = False) -> str:
    """What the figure shows. ``tokens_percent`` is of ``none``; published lines (Table 2) have no absolute numbers."""
    rows = rows_of(results, task)
    lines: list[tuple[object, ...]] = [
        ("measured", row.model, row.task, row.method, row.quadrant, row["avg_at_k"].mean, row["avg_at_k"].low,
         row["avg_at_k"].high, row["delta"].mean, row["tokens"].mean, 100 - row["reduction"].mean,
         row["launch_seconds"].mean, row["check_seconds"].mean)
        for row in rows
    ]  # fmt: skip
    nan = math.nan
    if paper:
        lines += [
            (SOURCE, point.model, "mean over data sets", f"type {point.quadrant}", point.quadrant, nan, nan, nan,
             point.gain, nan, point.tokens_percent, nan, nan)
            for point in published_points()
        ]  # fmt: skip
    return csv_text(COLUMNS, lines)


def pareto(results: Results, task: str = "all", paper: bool = False) -> Figure:
    """The figure of one task. ``paper`` adds the published trade-off below, beside the measured one in its units.

    Raises ValueError for a task without results.
    """
    rows = rows_of(results, task)
    tall = max(2.3, NAME_INCHES * (len(rows) + 3))
    below = PUBLISHED_GAP + PUBLISHED_INCHES if paper else 0.0
    height = TOP + tall + below + FOOT
    low, high = _limits(rows)
    names = {row.method: _name(row, high) for row in rows}
    column = max(text_inches(name, NAME_POINTS) for name in names.values()) + LEADER_INCHES + 0.16
    wide = (WIDTH_INCHES - LEFT - GAP - column) / 2
    with theme():
        figure = new_figure(height)
        figure.suptitle(caption(rows, task), x=0.02, y=1 - 0.06 / height, ha="left", va="top", fontsize=7.5)
        bottom = (FOOT + below) / height
        tokens = figure.add_axes((LEFT / WIDTH_INCHES, bottom, wide / WIDTH_INCHES, tall / height))
        seconds = figure.add_axes(((LEFT + wide + GAP) / WIDTH_INCHES, bottom, wide / WIDTH_INCHES, tall / height))
        for ax in (tokens, seconds):
            ax.set_ylim(low, high)
            ax.yaxis.set_major_locator(MaxNLocator(7, integer=True))
            ax.tick_params(axis="both", length=0, pad=2)
            for row in rows:
                if row.method in REFERENCES and low <= row["avg_at_k"].mean <= high:
                    ax.axhline(row["avg_at_k"].mean, color=MUTED, linewidth=0.7, linestyle=(0, (3, 2)), zorder=1)
        _against_tokens(tokens, rows)
        _against_seconds(seconds, rows)
        _names(figure, seconds, rows, names, tall)
        if paper:
            _published(figure, rows, height)
        legend(figure, rows, 0.36 / height)
    return figure


@figure("pareto", "Accuracy against tokens and against seconds.", published=True, place=50)
def draw(run: RunFolder, paper: bool) -> Drawing:
    return Drawing(pareto(run.results, run.task, paper), pareto_csv(run.results, run.task, paper))


def _limits(rows: Sequence[ResultRow]) -> tuple[float, float]:
    """What the height must hold. The oracle is far out and would squeeze the others."""
    shown = [row for row in rows if row.method != "oracle"] or list(rows)
    ends = [
        v
        for row in shown
        for v in (row["avg_at_k"].mean, row["avg_at_k"].low, row["avg_at_k"].high)
        if not math.isnan(v)
    ]
    low, high = max(min(ends, default=0.0), -1.0), min(max(ends, default=100.0), 101.0)
    margin = 0.04 * max(high - low, 5.0)
    return low - margin, high + margin


def _name(row: ResultRow, top: float) -> str:
    """The method; with its accuracy where the point lies above the panels."""
    if row["avg_at_k"].mean > top:
        return f"{row.method} (↑ {row['avg_at_k'].mean:.0f} %)"
    return f"{row.method} (not measured)" if math.isnan(row["avg_at_k"].mean) else row.method


def _bar(ax: Axes, x: float, row: ResultRow) -> None:
    """The interval as a thin upright bar, and the point; a point outside is left to its name."""
    low, high = ax.get_ylim()
    if not (math.isnan(row["avg_at_k"].low) or math.isnan(row["avg_at_k"].high)):
        ends = [max(row["avg_at_k"].low, low), min(row["avg_at_k"].high, high)]
        ax.plot([x, x], ends, color=QUADRANTS[row.quadrant].color, linewidth=0.6, alpha=0.55, zorder=2)
    if low <= row["avg_at_k"].mean <= high:
        dot(ax, x, row["avg_at_k"].mean, row.quadrant)


def _against_tokens(ax: Axes, rows: Sequence[ResultRow]) -> None:
    known = [row for row in rows if not (math.isnan(row["tokens"].mean) or math.isnan(row["avg_at_k"].mean))]
    ax.set_xlim(0, 1.1 * max([row["tokens"].mean for row in known if row["tokens"].mean > 0], default=1.0))
    ax.xaxis.set_major_locator(MaxNLocator(3, prune="upper"))
    ax.xaxis.set_major_formatter(FuncFormatter(thousands))
    ax.set_xlabel("tokens\nper problem", labelpad=2, linespacing=1.1)
    ax.set_ylabel("avg@k (%), 95 % interval", labelpad=1)
    for row in known:
        _bar(ax, row["tokens"].mean, row)
    if not known:
        ax.annotate("not measured", (0.5, 0.5), xycoords="axes fraction", ha="center", color=MUTED)


def _against_seconds(ax: Axes, rows: Sequence[ResultRow]) -> None:
    known = [row for row in rows if not (math.isnan(row["check_seconds"].mean) or math.isnan(row["avg_at_k"].mean))]
    ax.tick_params(axis="y", labelleft=False)
    launches = [row["launch_seconds"].mean for row in rows if not math.isnan(row["launch_seconds"].mean)]
    launch = f"\n(launch: {launches[0]:.2g} s)" if launches else "\nper problem"
    ax.set_xlabel(f"check (s){launch}", labelpad=2, linespacing=1.1)
    if not known:
        ax.set_xticks([])
        ax.annotate("not measured", (0.5, 0.5), xycoords="axes fraction", ha="center", color=MUTED)
        return
    zero = cost_axis(ax, [row["check_seconds"].mean for row in known])
    for row in known:
        _bar(ax, max(row["check_seconds"].mean, zero), row)


def _names(figure: Figure, ax: Axes, rows: Sequence[ResultRow], names: dict[str, str], tall: float) -> None:
    """A column of names to the right of the panels, each led to by a line at its point's height."""
    low, high = ax.get_ylim()
    box, height = ax.get_position(), figure.get_figheight()
    ordered = sorted(rows, key=lambda row: (not math.isnan(row["avg_at_k"].mean), row["avg_at_k"].mean))
    real = [low if math.isnan(row["avg_at_k"].mean) else min(max(row["avg_at_k"].mean, low), high) for row in ordered]
    inches = [(value - low) / (high - low) * tall for value in real]
    places = spread(inches, NAME_INCHES, NAME_INCHES / 2, tall - NAME_INCHES / 2)
    column = box.x1 + LEADER_INCHES / WIDTH_INCHES
    for row, value, inch, place in zip(ordered, real, inches, places, strict=True):
        style = QUADRANTS[row.quadrant]
        y0, y1 = (box.y0 + at / height for at in (inch, place))
        if low < value < high and not math.isnan(row["check_seconds"].mean):
            start = max(row["check_seconds"].mean, ax.get_xlim()[0])
            ax.plot([start, ax.get_xlim()[1]], [value, value], color=FAINT, linewidth=0.4, zorder=1)
        figure.add_artist(Line2D([box.x1 + 0.004, column - 0.004], [y0, y1], color=FAINT, linewidth=0.5))
        figure.add_artist(Line2D([column + 0.012], [y1], marker=style.marker, color=style.color, linestyle="none",
                                 markersize=0.75 * style.size))  # fmt: skip
        figure.text(column + 0.03, y1, names[row.method], va="center_baseline", fontsize=NAME_POINTS, color=INK)


def _published(figure: Figure, rows: Sequence[ResultRow], height: float) -> None:
    """Measured and published gains over ``none``, one panel each, on the same axes."""
    points = published_points()
    measured = [row for row in rows if row.quadrant not in ("control", "mixed") and not math.isnan(row["delta"].mean)]
    gains = [0.0, *(row["delta"].mean for row in measured), *(point.gain for point in points)]
    margin = 0.08 * (max(gains) - min(gains))
    wide = (WIDTH_INCHES - LEFT - GAP - 0.06) / 2
    for index, title in enumerate(("measured", f"published ({len({point.model for point in points})} models)")):
        ax = figure.add_axes(((LEFT + index * (wide + GAP)) / WIDTH_INCHES, FOOT / height, wide / WIDTH_INCHES,
                              PUBLISHED_INCHES / height))  # fmt: skip
        ax.set(xlim=(0, 105), ylim=(min(gains) - margin, max(gains) + margin), xticks=[0, 25, 50, 75])
        ax.axhline(0, color=MUTED, linewidth=0.7, linestyle=(0, (3, 2)), zorder=1)
        ax.set_title(title, fontsize=NAME_POINTS, pad=2, loc="left")
        ax.set_xlabel("tokens (% of none)", labelpad=2)
        ax.tick_params(length=0, pad=2, labelleft=index == 0)
        if index == 0:
            ax.set_ylabel("gain (points)", labelpad=2)
            for row in measured:
                if not math.isnan(row["reduction"].mean):
                    dot(ax, 100 - row["reduction"].mean, row["delta"].mean, row.quadrant)
        else:
            for point in points:
                open_marker(ax, [point.tokens_percent], [point.gain], point.quadrant)
