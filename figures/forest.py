"""The answer in one picture: what every method gains over keeping all, with its interval, quadrant by quadrant."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from prunebench.bench.evaluation.results import LEVEL, ResultRow, Results
from prunebench.bench.evaluation.tables.representatives import Lead, lead
from prunebench.bench.files import csv_text
from prunebench.figures.registry import Drawing, figure
from prunebench.figures.run_folder import RunFolder
from prunebench.figures.style import (
    INK,
    MUTED,
    NAME_POINTS,
    QUADRANTS,
    caption,
    names_margin,
    new_figure,
    rows_of,
    theme,
)

ROW_INCHES, FOOT = 0.145, 0.36
TITLE, LINE, ABOVE_AXES = 0.24, 0.12, 0.20
REFERENCE = "potential"
HIDDEN = ("none", "oracle", REFERENCE)
"""Keeping all is the line at 0, the potential a dashed one; the oracle knows the answers."""
COLUMNS = ("task", "quadrant", "method", "delta", "delta_low", "delta_high", "p_holm")


@figure("forest", "What every method gains over keeping all, by quadrant.", place=45)
def draw(run: RunFolder) -> Drawing:
    return Drawing(forest(run.results, run.task), forest_csv(run.results, run.task))


def forest_csv(results: Results, task: str = "all") -> str:
    """What the figure shows."""
    cells = (row.flat() for group in _groups(rows_of(results, task)) for row in group)
    return csv_text(COLUMNS, ([row[column] for column in COLUMNS] for row in cells))


def forest(results: Results, task: str = "all") -> Figure:
    """The figure of one task. Raises ValueError for a task without results."""
    rows = rows_of(results, task)
    groups = _groups(rows)
    count = sum(len(group) + 1 for group in groups)
    head = _head(lead(results, task))
    height = TITLE + LINE * len(head) + ABOVE_AXES + ROW_INCHES * count + FOOT
    with theme():
        drawn = new_figure(height)
        drawn.suptitle(caption(rows, task), x=0.02, y=1 - 0.06 / height, ha="left", va="top", fontsize=7.5)
        margin = names_margin([row for group in groups for row in group])
        ax = drawn.add_axes((margin, FOOT / height, 0.965 - margin, ROW_INCHES * count / height))
        ax.set_ylim(0.5 - count, 0.5)
        _reference_lines(ax, rows)
        places = _places(ax, groups)
        ax.set_yticks([place for place, _ in places], [row.method for _, row in places])
        chosen = {one.method for one in results.representatives}
        for label, (_, row) in zip(ax.get_yticklabels(), places, strict=True):
            label.set_fontweight("bold" if row.method in chosen else "normal")
        ax.grid(visible=False, axis="y")
        ax.tick_params(axis="both", length=0, pad=2)
        ax.set_xlabel("points of avg@k over keeping all, 95 % interval", labelpad=2)
        for spine in ax.spines.values():
            spine.set_visible(False)
        for number, (line, style) in enumerate(head):
            drawn.text(0.02, 1 - (TITLE + LINE * number) / height, line, va="center", **style)
    return drawn


def _head(leading: Lead | None) -> list[tuple[str, dict[str, Any]]]:
    """Whether a quadrant is the best one, by whom, and what words and marks mean: lines and how they are written."""
    small = {"fontsize": NAME_POINTS, "color": MUTED}
    lines = [
        "of N paths k go on after L tokens; potential: the best choice",
        "filled: survives Holm's correction; open: does not, or is not tested",
        "bold: stands for its quadrant, chosen on validation problems",
    ]
    answer = [] if leading is None else [
        (leading.headline, {"fontsize": 7, "fontweight": "bold", "color": INK}),
        (leading.detail, small),
    ]  # fmt: skip
    return [*answer, *((line, small) for line in lines)]


def _groups(rows: Sequence[ResultRow]) -> list[list[ResultRow]]:
    """The methods of each quadrant, best first; the controls last."""
    shown = [row for row in rows if row.method not in HIDDEN] or list(rows)
    groups = [[row for row in shown if row.quadrant == quadrant] for quadrant in QUADRANTS]
    return [sorted(group, key=_order) for group in groups if group]


def _order(row: ResultRow) -> tuple[bool, float]:
    gain = row["delta"].mean
    return (True, 0.0) if math.isnan(gain) else (False, -gain)


def _places(ax: Axes, groups: Sequence[Sequence[ResultRow]]) -> list[tuple[int, ResultRow]]:
    """Draw every method in its place: a heading, then the methods of a quadrant."""
    places: list[tuple[int, ResultRow]] = []
    place = 0
    for group in groups:
        style = QUADRANTS[group[0].quadrant]
        ax.annotate(
            style.label, (0.02, place), xycoords=("figure fraction", "data"), fontsize=NAME_POINTS + 0.5,
            fontweight="bold", color=style.color, va="center", annotation_clip=False,
        )  # fmt: skip
        for number, row in zip(range(place - 1, place - 1 - len(group), -1), group, strict=True):
            places.append((number, row))
            delta, filled = row["delta"], row["p_holm"].mean < LEVEL
            if math.isnan(delta.mean):
                ax.annotate("not measured", (0.5, number), xycoords=("axes fraction", "data"), color=MUTED,
                            fontsize=NAME_POINTS, ha="center", va="center")  # fmt: skip
                continue
            if not math.isnan(delta.low):
                ax.plot([delta.low, delta.high], [number, number], color=style.color, linewidth=1.1, zorder=3)
            ax.plot(
                [delta.mean], [number], marker=style.marker, markersize=style.size, linestyle="none", zorder=4,
                color=style.color, markerfacecolor=style.color if filled else "white", markeredgewidth=0.9,
            )  # fmt: skip
        place -= len(group) + 1
    return places


def _reference_lines(ax: Axes, rows: Sequence[ResultRow]) -> None:
    """Keeping all at 0, and what the best choice of k prefixes would gain, dashed."""
    shown = [row for group in _groups(rows) for row in group]
    ends = [v for row in shown for v in (row["delta"].low, row["delta"].high, row["delta"].mean) if not math.isnan(v)]
    best = next((row["delta"].mean for row in rows if row.method == REFERENCE), math.nan)
    ends += [0.0] + ([] if math.isnan(best) else [best])
    room = 0.03 * (max(ends) - min(ends) or 1.0)
    ax.set_xlim(min(ends) - room, max(ends) + room)
    ax.axvline(0, color=INK, linewidth=0.8, zorder=2)
    if not math.isnan(best):
        ax.axvline(best, color=MUTED, linewidth=0.8, linestyle=(0, (3, 2)), zorder=1)
        ax.annotate(
            f"potential +{best:.0f}", (best, 0.5), xytext=(-2, 2), textcoords="offset points", fontsize=NAME_POINTS,
            color=MUTED, ha="right", va="bottom",
        )  # fmt: skip
