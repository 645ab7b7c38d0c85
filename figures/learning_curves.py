"""What learned methods gain by what they learn from: problems, continuations per label, prefixes per problem."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from prunebench.bench.evaluation.ablation import AblationRow
from prunebench.bench.evaluation.results import QuadrantName, ResultRow
from prunebench.bench.files import csv_text
from prunebench.figures.registry import Drawing, figure
from prunebench.figures.run_folder import RunFolder
from prunebench.figures.style import INK, QUADRANTS, WIDTH_INCHES, names_at_ends, new_figure, rows_of, theme
from prunebench.methods.registry import PRUNERS

TITLES = {"problems": "training problems", "labels": "continuations per label", "prefixes": "prefixes per problem"}
COLUMNS = ("method", "axis", "value", "train_prefixes", "seeds", "n_problems", "delta", "delta_low", "delta_high",
           "avg_at_k", "avg_at_k_sd", "auroc", "auroc_low", "auroc_high", "auroc_sd")  # fmt: skip
PANEL_INCHES, TOP, FOOT, LEFT, RIGHT = 1.2, 0.32, 0.36, 0.38, 1.05
_LINES = ("-", "--", ":", "-.")
FREE = ("I", "III")


@figure(
    "learning_curves", "What learned methods gain by the labels that they learn from, beside the best free method.",
    needs="prunebench study curves", place=115,
)  # fmt: skip
def draw(run: RunFolder) -> Drawing:
    return Drawing(learning_curves(run.curves, best_free(rows_of(run.results, run.task))), learning_csv(run.curves))


def best_free(rows: Sequence[ResultRow]) -> ResultRow | None:
    """What gains most among the methods with nothing to learn that compete; None where none took part."""
    free = [row for row in rows if row.quadrant in FREE and not math.isnan(row["p_holm"].mean)]
    return max(free, key=lambda row: row["delta"].mean, default=None)


def learning_csv(rows: Sequence[AblationRow]) -> str:
    """A line per method, axis and value."""
    return csv_text(
        COLUMNS,
        [
            (row.method, row.axis, row.value, row.train_prefixes, row.seeds, row.n_problems, row.delta.mean,
             row.delta.low, row.delta.high, row.avg_at_k.mean, row.avg_at_k_sd, row.auroc.mean, row.auroc.low,
             row.auroc.high, row.auroc_sd)
            for row in rows
        ],
    )  # fmt: skip


def learning_curves(rows: Sequence[AblationRow], free: ResultRow | None = None) -> Figure:
    """A panel per axis, a line per method: the gain over keeping all, mean over seeds; bars are 95 % over problems.

    ``free``: a dashed line. Raises ValueError without rows.
    """
    axes = [axis for axis in TITLES if any(row.axis == axis for row in rows)]
    if not axes:
        raise ValueError("no learning curve was measured")
    methods = list(dict.fromkeys(row.method for row in rows))
    shown = [end for row in rows for end in (row.delta.low, row.delta.high, row.delta.mean) if not math.isnan(end)]
    shown += [0.0, *([free["delta"].mean] if free else [])]
    low, high = min(shown), max(shown)
    first = rows[0]
    height = TOP + len(axes) * (PANEL_INCHES + FOOT)
    with theme():
        figure = new_figure(height)
        panels = figure.subplots(len(axes), 1, sharey=True, squeeze=False)[:, 0]
        figure.subplots_adjust(
            left=LEFT / WIDTH_INCHES, right=1 - RIGHT / WIDTH_INCHES, bottom=FOOT / height, top=1 - TOP / height,
            hspace=FOOT / PANEL_INCHES,
        )  # fmt: skip
        figure.suptitle(
            f"{first.n_problems} test problems, N = {first.n}, k = {first.k}, {first.seeds} seeds", x=0.02,
            y=1 - 0.06 / height, ha="left", va="top", fontsize=7.5,
        )  # fmt: skip
        for panel, axis in zip(panels, axes, strict=True):
            own = [row for row in rows if row.axis == axis]
            _panel(panel, own, methods)
            panel.set_xlabel(TITLES[axis], labelpad=2)
            panel.set_ylim(low - 0.06 * (high - low), high + 0.06 * (high - low))
            panel.axhline(0, color=INK, linewidth=0.8)
            if free:
                panel.axhline(free["delta"].mean, color=QUADRANTS[free.quadrant].color, linewidth=1.0, linestyle="--")
            panel.set_ylabel("points over none", labelpad=2)
            ends = [(row.delta.mean, row.method, QUADRANTS[_quadrant(row.method)].color)
                    for method in methods for row in [r for r in own if r.method == method][-1:]]  # fmt: skip
            if free:
                ends.append((free["delta"].mean, f"{free.method} (free)", QUADRANTS[free.quadrant].color))
            names_at_ends(panel, ends)
    return figure


def _panel(ax: Axes, rows: Sequence[AblationRow], methods: Sequence[str]) -> None:
    values = list(dict.fromkeys(row.value for row in rows))
    ax.set_xlim(-0.35, len(values) - 0.65)
    ax.set_xticks(range(len(values)), values)
    for number, method in enumerate(methods):
        own = [row for row in rows if row.method == method]
        aside = 0.2 * (number / max(1, len(methods) - 1) - 0.5)
        places = [values.index(row.value) + aside for row in own]
        style = QUADRANTS[_quadrant(method)]
        ax.plot(places, [row.delta.mean for row in own], color=style.color, linestyle=_LINES[number % len(_LINES)],
                linewidth=1.0, marker=style.marker, markersize=2.8)  # fmt: skip
        for place, row in zip(places, own, strict=True):
            if not math.isnan(row.delta.low):
                ax.plot([place, place], [row.delta.low, row.delta.high], color=style.color, linewidth=0.5, alpha=0.7)
    ax.tick_params(length=0, pad=2)
    ax.grid(visible=False, axis="x")


def _quadrant(method: str) -> QuadrantName:
    return PRUNERS.get(method).quadrant().value
