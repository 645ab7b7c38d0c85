"""Reliability diagrams: what a score that claims to be a probability says, against what turns out to be true."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from prunebench.bench.evaluation.results import CalibrationRow, QuadrantName, Results
from prunebench.bench.files import csv_text
from prunebench.figures.registry import Drawing, figure
from prunebench.figures.run_folder import RunFolder
from prunebench.figures.style import FAINT, INK, MUTED, NAME_POINTS, QUADRANTS, WIDTH_INCHES, new_figure, theme

COLUMNS, PANEL_INCHES, TOP, FOOT, LEFT = 3, 0.86, 0.42, 0.34, 0.36


@figure("reliability", "Scores that claim to be probabilities, against the truth.", place=130)
def draw(run: RunFolder) -> Drawing:
    return Drawing(reliability(run.results, run.task), reliability_csv(run.results, run.task))


def reliability_rows(results: Results, task: str = "all") -> list[CalibrationRow]:
    """The methods of one task that claim probabilities, best calibrated first."""
    rows = [row for row in results.calibration if row.task == task]
    return sorted(rows, key=lambda row: (math.isnan(row.ece), row.ece, row.method))


def reliability_csv(results: Results, task: str = "all") -> str:
    """A line per method and bin: bounds, count, mean score and mean truth."""
    columns = ("task", "method", "truth", "ece", "brier", "low", "high", "count", "mean_score", "mean_truth")
    return csv_text(
        columns,
        (
            (row.task, row.method, row.truth, row.ece, row.brier, *cells)
            for row in reliability_rows(results, task)
            for cells in row.bins
        ),
    )


def reliability(results: Results, task: str = "all") -> Figure:
    """A panel per method. A dot's area is its bin's share of the prefixes. Raises ValueError without such a method."""
    rows = reliability_rows(results, task)
    if not rows:
        raise ValueError(f"no method of task '{task}' claims probabilities")
    quadrants = {row.method: row.quadrant for row in results.rows}
    lines = math.ceil(len(rows) / COLUMNS)
    step = PANEL_INCHES + 0.22
    height = TOP + (lines - 1) * step + PANEL_INCHES + FOOT
    wide = (WIDTH_INCHES - LEFT - 0.08 - 0.10 * (COLUMNS - 1)) / COLUMNS
    truth = {"potential": "measured success rate", "outcome": "share of right answers"}[rows[0].truth]
    with theme():
        figure = new_figure(height)
        figure.suptitle("scores that claim to be probabilities", x=0.02, y=1 - 0.06 / height, ha="left", va="top",
                        fontsize=7.5)  # fmt: skip
        for index, row in enumerate(rows):
            line, column = divmod(index, COLUMNS)
            left = (LEFT + column * (wide + 0.10)) / WIDTH_INCHES
            bottom = (height - TOP - line * step - PANEL_INCHES) / height
            ax = figure.add_axes((left, bottom, wide / WIDTH_INCHES, PANEL_INCHES / height))
            last = index + COLUMNS >= len(rows)
            ax.set(xlim=(-0.04, 1.04), ylim=(-0.04, 1.04), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
            ax.set_xticklabels(["0", "½", "1"] if last else [])
            ax.set_yticklabels(["0", "½", "1"] if column == 0 else [])
            ax.tick_params(pad=1, length=0)
            ax.plot([0, 1], [0, 1], color=MUTED, linewidth=0.7, linestyle=(0, (3, 2)), zorder=1)
            _curve(ax, row.bins, quadrants.get(row.method, "mixed"))
            ax.set_title(row.method, fontsize=NAME_POINTS, pad=2, loc="left")
            ax.text(0.03, 0.97, f"ECE {row.ece:.2f}", transform=ax.transAxes, va="top", fontsize=NAME_POINTS,
                    color=INK)  # fmt: skip
        figure.text(0.5, 0.05 / height, "score", ha="center", va="bottom", fontsize=7.0)
        figure.text(0.03, (FOOT + height - TOP) / 2 / height, truth, rotation=90, ha="center", va="center", fontsize=7)
    return figure


def _curve(ax: Axes, bins: Sequence[tuple[float, float, int, float, float]], quadrant: QuadrantName) -> None:
    filled = [cells for cells in bins if cells[2] > 0]
    counts, scores, truths = ([cells[column] for cells in filled] for column in (2, 3, 4))
    areas = [5 + 60 * count / sum(counts) for count in counts]
    ax.plot(scores, truths, color=FAINT, linewidth=0.8, zorder=2)
    ax.scatter(scores, truths, color=QUADRANTS[quadrant].color, zorder=3, linewidths=0.3, edgecolors="white", s=areas)
