"""What one choice in training is worth (Tables 3 to 6): avg@k over the values of every axis that was trained."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from prunebench.bench.evaluation.ablation import AblationRow
from prunebench.bench.files import csv_text
from prunebench.figures.paper.marks import SOURCE, PublishedAblation, open_marker, published_ablations
from prunebench.figures.registry import Drawing, figure
from prunebench.figures.run_folder import RunFolder
from prunebench.figures.style import MUTED, NAME_POINTS, QUADRANTS, WIDTH_INCHES, new_figure, theme

TITLES = {
    "tokens": "[STOP] tokens", "rank": "LoRA rank", "labels": "continuations per label", "adapter": "LoRA adapter",
    "prefix": "prefix lengths trained on", "problems": "training problems", "prefixes": "prefixes per problem",
}  # fmt: skip
COLUMNS = ("source", "axis", "value", "metric", "seeds", "n_problems", "avg_at_k", "avg_at_k_low", "avg_at_k_high",
           "avg_at_k_sd", "auroc")  # fmt: skip
PANEL_INCHES, STEP_INCHES, TOP, FOOT, LEFT = 1.05, 1.46, 0.32, 0.58, 0.40


@figure(
    "ablations",
    "What each choice in training STOP is worth.",
    needs="prunebench study ablations",
    published=True,
    place=110,
)
def draw(run: RunFolder, paper: bool) -> Drawing:
    return Drawing(ablations(run.ablations, paper), ablations_csv(run.ablations, paper))


def ablations_csv(rows: Sequence[AblationRow], paper: bool = False) -> str:
    """A line per axis and value, published ones below with their own ``source`` and ``metric``."""
    nan = math.nan
    lines: list[tuple[object, ...]] = [
        ("measured", row.axis, row.value, f"avg@{row.k}|{row.n}", row.seeds, row.n_problems, row.avg_at_k.mean,
         row.avg_at_k.low, row.avg_at_k.high, row.avg_at_k_sd, row.auroc.mean)
        for row in rows
    ]  # fmt: skip
    if paper:
        lines += [
            (f"{SOURCE}, {row.dataset}", row.axis, row.value, row.metric, nan, nan, row.avg_at_k, *[nan] * 4)
            for row in published_ablations()
        ]
    return csv_text(COLUMNS, lines)


def ablations(rows: Sequence[AblationRow], paper: bool = False) -> Figure:
    """A panel per axis: means over seeds with the interval over problems, and a tick a seed's deviation to each side.

    ``paper`` adds the published values as open markers. Raises ValueError without rows.
    """
    if not rows:
        raise ValueError("no ablation was run")
    axes = [axis for axis in TITLES if any(row.axis == axis for row in rows)]
    published = published_ablations() if paper else []
    lines = math.ceil(len(axes) / 2)
    foot = FOOT + (0.12 if paper else 0)
    height = TOP + (lines - 1) * STEP_INCHES + PANEL_INCHES + foot
    shown = [v for row in rows for v in (row.avg_at_k.low, row.avg_at_k.high, row.avg_at_k.mean) if not math.isnan(v)]
    shown += [row.avg_at_k for row in published if row.axis in axes]
    low, high = min(shown, default=0.0), max(shown, default=100.0)
    margin = 0.06 * max(high - low, 1.0)
    wide = (WIDTH_INCHES - LEFT - 0.06 - 0.14) / 2
    first = rows[0]
    with theme():
        figure = new_figure(height)
        figure.suptitle(f"{first.method}: {first.n_problems} problems, {first.seeds} seeds, N = {first.n}, "
                        f"k = {first.k}", x=0.02, y=1 - 0.06 / height, ha="left", va="top", fontsize=7.5)  # fmt: skip
        for index, axis in enumerate(axes):
            line, column = divmod(index, 2)
            left = (LEFT + column * (wide + 0.14)) / WIDTH_INCHES
            bottom = (height - TOP - line * STEP_INCHES - PANEL_INCHES) / height
            ax = figure.add_axes((left, bottom, wide / WIDTH_INCHES, PANEL_INCHES / height))
            ax.set_ylim(low - margin, high + margin)
            ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))
            _panel(ax, [row for row in rows if row.axis == axis], [row for row in published if row.axis == axis])
            ax.set_xlabel(TITLES[axis], labelpad=2)
            ax.set_ylabel("avg@k (%)" if column == 0 else "", labelpad=2)
            ax.tick_params(length=0, pad=2, labelleft=column == 0)
            ax.grid(visible=False, axis="x")
        _legend(figure, height, published)
    return figure


def _panel(ax: Axes, rows: Sequence[AblationRow], published: Sequence[PublishedAblation]) -> None:
    values = sorted({row.value for row in rows} | {row.value for row in published}, key=_order)
    place = {value: index for index, value in enumerate(values)}
    ax.set_xlim(-0.6, len(values) - 0.4)
    ax.set_xticks(range(len(values)), values)
    aside = 0.13 if published else 0.0
    color = QUADRANTS["IV"].color
    for row in rows:
        x = place[row.value] - aside
        if not math.isnan(row.avg_at_k.low):
            ax.plot([x, x], [row.avg_at_k.low, row.avg_at_k.high], color=color, linewidth=0.9)
        if not math.isnan(row.avg_at_k_sd):
            ends = [row.avg_at_k.mean - row.avg_at_k_sd, row.avg_at_k.mean + row.avg_at_k_sd]
            ax.plot([x, x], ends, color=color, linestyle="none", marker="_", markersize=5)
        ax.plot([x], [row.avg_at_k.mean], marker="^", color=color, markersize=4.8, markeredgecolor="white",
                markeredgewidth=0.4, zorder=4)  # fmt: skip
    for printed in published:
        open_marker(ax, [place[printed.value] + aside], [printed.avg_at_k], "IV")


def _order(value: str) -> tuple[bool, float, str]:
    """Numbers first, by size; words in the order of their training lengths, else by name."""
    words = {"L/2": 0.0, "L": 1.0, "2L": 2.0, "all": 3.0, "with": 0.0, "without": 1.0}
    return (False, float(value), "") if value.isdecimal() else (True, words.get(value, 9.0), value)


def _legend(figure: Figure, height: float, published: Sequence[PublishedAblation]) -> None:
    color = QUADRANTS["IV"].color
    handles = [
        Line2D([], [], color=color, marker="^", linewidth=0.9, label="measured, 95 % over problems"),
        Line2D([], [], color=color, marker="_", markersize=5, linestyle="none", label="± SD over seeds"),
    ]
    figure.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.5, (0.17 if published else 0.04) / height),
                  ncols=2, borderaxespad=0, handletextpad=0.4, columnspacing=1.0)  # fmt: skip
    if published:
        figure.text(0.5, 0.05 / height, "open: paper, 1.5B on AIME24, avg@8|64 (tokens: avg@32|256)", ha="center",
                    va="bottom", fontsize=NAME_POINTS, color=MUTED)  # fmt: skip
