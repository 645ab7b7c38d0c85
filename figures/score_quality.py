"""How good the scores are before any policy or vote: ranking within problems, and the share of the headroom taken."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from prunebench.bench.evaluation.results import ResultRow, Results
from prunebench.bench.files import csv_text
from prunebench.figures.registry import Drawing, figure
from prunebench.figures.run_folder import RunFolder
from prunebench.figures.style import (
    FAINT,
    MUTED,
    QUADRANTS,
    caption,
    interval,
    legend,
    names_margin,
    new_figure,
    rows_of,
    theme,
)

ROW_INCHES, GROUP_GAP = 0.17, 0.5
HEADROOM_LIMITS = (-100.0, 150.0)
"""The widest axis of the headroom panel, in %; what lies beyond shows as an arrow with its value."""


COLUMNS = ("task", "method", "quadrant", "auroc", "auroc_low", "auroc_high", "spearman", "headroom", "headroom_low",
           "headroom_high", "normalised", "normalised_low", "normalised_high")  # fmt: skip


@figure("score_quality", "Ranking within problems, and the headroom captured.", place=120)
def draw(run: RunFolder) -> Drawing:
    return Drawing(score_quality(run.results, run.task), score_quality_csv(run.results, run.task))


def score_quality_csv(results: Results, task: str = "all") -> str:
    """What the figure shows, and beside it the rank correlation with the potential and the normalised accuracy."""
    return csv_text(
        COLUMNS, ([cells[column] for column in COLUMNS] for cells in (row.flat() for row in rows_of(results, task)))
    )


def score_quality(results: Results, task: str = "all") -> Figure:
    """AUROC and headroom of every method, grouped by quadrant, best first. Raises ValueError without results."""
    rows = rows_of(results, task)
    groups = [
        sorted((row for row in rows if row.quadrant == quadrant), key=_rank)
        for quadrant in QUADRANTS
        if any(row.quadrant == quadrant for row in rows)
    ]
    places: list[tuple[float, ResultRow]] = []
    y = 0.0
    for group in groups:
        places += [(y - index, row) for index, row in enumerate(group)]
        y -= len(group) + GROUP_GAP
    top, foot = 0.32, 0.80
    height = top + ROW_INCHES * -y + foot
    with theme():
        figure = new_figure(height)
        bottom, tall = foot / height, (height - top - foot) / height
        margin, gap, right_margin = names_margin(rows), 0.07, 0.035
        wide = (1 - margin - gap - right_margin) / 2
        left = figure.add_axes((margin, bottom, wide, tall))
        right = figure.add_axes((margin + wide + gap, bottom, wide, tall))
        figure.suptitle(caption(rows, task), x=0.02, y=1 - 0.08 / height, ha="left", va="top", fontsize=7.5)
        _auroc(left, places)
        _headroom(right, places)
        for ax in (left, right):
            ax.set_ylim(y + GROUP_GAP + 0.4, 0.6)
            ax.grid(visible=False, axis="y")
            ax.set_yticks([place for place, _ in places], [row.method for _, row in places])
            ax.tick_params(axis="y", length=0, pad=2, labelleft=ax is left)
            _separate(ax, groups)
        legend(figure, rows, 0.35 / height)
    return figure


def _rank(row: ResultRow) -> tuple[bool, float, str]:
    return (math.isnan(row["auroc"].mean), -row["auroc"].mean if not math.isnan(row["auroc"].mean) else 0.0, row.method)


def _auroc(ax: Axes, places: Sequence[tuple[float, ResultRow]]) -> None:
    values = [
        v for _, row in places for v in (row["auroc"].mean, row["auroc"].low, row["auroc"].high) if not math.isnan(v)
    ]
    ax.set_xlim(max(0.0, min([0.4, *values]) - 0.02), 1.02)
    ax.axvline(0.5, color=MUTED, linewidth=0.7, linestyle=(0, (3, 2)), zorder=1)
    for y, row in places:
        interval(ax, row["auroc"].mean, row["auroc"].low, row["auroc"].high, y, row.quadrant)
    ax.set_xlabel("AUROC within problems", labelpad=2)


def _headroom(ax: Axes, places: Sequence[tuple[float, ResultRow]]) -> None:
    ends = [
        v
        for _, row in places
        if row.method != "oracle"
        for v in (row["headroom"].mean, row["headroom"].low, row["headroom"].high)
        if not math.isnan(v)
    ]
    low, high = min([-10.0, *ends]), max([100.0, *ends])
    margin = 0.06 * (high - low)
    ax.set_xlim(max(low - margin, HEADROOM_LIMITS[0]), min(high + margin, HEADROOM_LIMITS[1]))
    for reference in (0.0, 100.0):
        ax.axvline(reference, color=MUTED, linewidth=0.7, linestyle=(0, (3, 2)), zorder=1)
    if all(math.isnan(row["headroom"].mean) for _, row in places if row.quadrant != "control"):
        ax.annotate(
            "undefined: potential\nis not clearly\nbetter than none", (0.5, 0.5), xycoords="axes fraction", color=MUTED,
            ha="center", va="center", bbox={"facecolor": "white", "edgecolor": "none", "pad": 2},
        )  # fmt: skip
        ax.set_xlabel("headroom captured (%)", labelpad=2)
        return
    for y, row in places:
        interval(ax, row["headroom"].mean, row["headroom"].low, row["headroom"].high, y, row.quadrant)
    ax.set_xlabel("headroom captured (%)", labelpad=2)


def _separate(ax: Axes, groups: Sequence[Sequence[ResultRow]]) -> None:
    y = 0.0
    for group in groups[:-1]:
        y -= len(group) + GROUP_GAP
        ax.axhline(y + 0.5 + GROUP_GAP / 2, color=FAINT, linewidth=0.6, zorder=0)
