"""How every figure looks, and how it is written to disk: one palette, one size, the same bytes every time."""

from __future__ import annotations

import io
import math
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.textpath import TextPath
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

from prunebench.bench.evaluation.results import QuadrantName, ResultRow, Results
from prunebench.bench.files import write_atomically

WIDTH_INCHES = 3.4
"""One text column. Figures are drawn at this width, so that they need no scaling in a paper."""
TICK_POINTS, NAME_POINTS = 6.5, 6.0

INK, MUTED, FAINT = "#222222", "#6B6B6B", "#D0D0D0"


@dataclass(frozen=True)
class QuadrantStyle:
    """Colour, marker and name of a quadrant."""

    color: str
    marker: str
    label: str
    size: float = 4.2


QUADRANTS: dict[QuadrantName, QuadrantStyle] = {
    "I": QuadrantStyle("#56B4E9", "s", "I  surface heuristics"),
    "II": QuadrantStyle("#0072B2", "D", "II  external judges"),
    "III": QuadrantStyle("#E69F00", "o", "III  raw confidence"),
    "IV": QuadrantStyle("#D55E00", "^", "IV  learned intuition", 4.8),
    "mixed": QuadrantStyle("#CC79A7", "P", "mixed", 5.2),
    "control": QuadrantStyle(MUTED, "X", "control", 4.8),
}
"""Okabe and Ito's colours: external sources are blue, internal ones orange, and the learnable ones are the darker."""

FONT = "DejaVu Sans"
"""Comes with matplotlib: the same text everywhere."""

_SETTINGS: dict[Any, Any] = {
    "font.family": FONT,
    "font.size": 7.0,
    "axes.labelsize": 7.0,
    "axes.titlesize": 7.5,
    "xtick.labelsize": TICK_POINTS,
    "ytick.labelsize": TICK_POINTS,
    "legend.fontsize": TICK_POINTS,
    "legend.frameon": False,
    "axes.linewidth": 0.6,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": "#EBEBEB",
    "grid.linewidth": 0.6,
    "lines.linewidth": 0.9,
    "lines.markersize": 4.2,
    "savefig.dpi": 300,
    "svg.hashsalt": "prunebench",
    "svg.fonttype": "path",
}


@contextmanager
def theme() -> Iterator[None]:
    """The settings of every figure, for the duration of a block."""
    with sns.axes_style("whitegrid"), mpl.rc_context(_SETTINGS):
        yield


def new_figure(height_inches: float) -> Figure:
    """An empty figure of one column's width, drawn by Agg and outside pyplot's list. Call it within :func:`theme`."""
    return Figure(figsize=(WIDTH_INCHES, height_inches), facecolor="white")


def save(figure: Figure, path_without_suffix: Path, formats: Sequence[str] = ("png", "svg")) -> list[Path]:
    """Write the figure once per format, each whole or not at all; equal figures give equal bytes."""
    path_without_suffix.parent.mkdir(parents=True, exist_ok=True)
    written = []
    for suffix in formats:
        path = path_without_suffix.with_name(f"{path_without_suffix.name}.{suffix}")
        metadata = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(suffix)
        with theme():
            figure.savefig(drawn := io.BytesIO(), format=suffix, metadata=metadata)
        write_atomically(path, drawn.getvalue())
        written.append(path)
    return written


def rows_of(results: Results, task: str) -> list[ResultRow]:
    """The rows of one task. Raises ValueError for a task that has none."""
    rows = [row for row in results.rows if row.task == task]
    if not rows:
        known = ", ".join(dict.fromkeys(row.task for row in results.rows)) or "none"
        raise ValueError(f"no results for task '{task}'; tasks with results: {known}")
    return rows


def caption(rows: Sequence[ResultRow], task: str) -> str:
    """What was run, in a line: task, problems, N, k and L. k is that of the policy which most methods run under."""
    pruned = [row for row in rows if row.method != "none"] or list(rows)
    usual = Counter(row.policy for row in pruned).most_common(1)[0][0]
    pruned = [row for row in pruned if row.policy == usual]
    title = "all tasks pooled" if task == "all" else task
    sizes = {
        "N": {row.n for row in pruned},
        "k": {row.k for row in pruned},
        "L": {row.prefix_tokens for row in pruned},
    }
    setting = ", ".join(f"{name} = {'/'.join(map(str, sorted(values)))}" for name, values in sizes.items())
    return f"{title}: {max(row.n_problems for row in rows)} problems, {setting}"


def interval(ax: Axes, value: float, low: float, high: float, y: float, quadrant: QuadrantName) -> None:
    """A horizontal dot with its interval. What lies outside the axis shows as an arrow at the edge with its value,
    what is undefined as that word.

    The limits of the axis must be set before.
    """
    style = QUADRANTS[quadrant]
    left, right = sorted(ax.get_xlim())
    if math.isnan(value):
        ax.annotate("undefined", (0.03, y), xycoords=("axes fraction", "data"), color=MUTED, fontsize=NAME_POINTS,
                    va="center", bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6})  # fmt: skip
        return
    if not (math.isnan(low) or math.isnan(high)):
        ends = [max(low, left), min(high, right)]
        ax.plot(ends, [y, y], color=style.color, linewidth=1.3, solid_capstyle="butt")
        for end, beyond, symbol in ((left, low < left, "<"), (right, high > right, ">")):
            if beyond:
                ax.plot([end], [y], marker=symbol, color=style.color, markersize=2.4, clip_on=False, zorder=4)
    if left <= value <= right:
        dot(ax, value, y, quadrant)
        return
    edge, symbol, side = (right, ">", -1) if value > right else (left, "<", 1)
    ax.plot([edge], [y], marker=symbol, color=style.color, markersize=3.6, clip_on=False, zorder=4)
    ax.annotate(
        f"{value:.0f}".replace("-", "−"), (edge, y), (5 * side, 0), textcoords="offset points", fontsize=NAME_POINTS,
        color=MUTED, va="center", ha="right" if side < 0 else "left",
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
    )  # fmt: skip


def names_margin(rows: Sequence[ResultRow]) -> float:
    """Where panels begin, as a fraction of the width, so that the longest name fits to the left of them."""
    return (max(text_inches(row.method, TICK_POINTS) for row in rows) + 0.10) / WIDTH_INCHES


def dot(ax: Axes, x: float, y: float, quadrant: QuadrantName) -> None:
    """One method's point, in the colour and with the marker of its quadrant."""
    style = QUADRANTS[quadrant]
    ax.plot(
        [x], [y], marker=style.marker, color=style.color, markersize=style.size, linestyle="none", zorder=4,
        markeredgecolor="white", markeredgewidth=0.4, clip_on=False,
    )  # fmt: skip


def legend(figure: Figure, rows: Sequence[ResultRow], y: float) -> None:
    """The quadrants that occur, below the panels; ``y`` is the legend's top in figure coordinates."""
    quadrant_legend(figure, {row.quadrant for row in rows}, y)


def quadrant_legend(figure: Figure, present: Collection[QuadrantName], y: float) -> None:
    """The quadrants in ``present``, centred; ``y`` is the legend's top in figure coordinates."""
    handles = [
        Line2D(
            [], [], color=style.color, marker=style.marker, markersize=style.size, linestyle="none", label=style.label
        )
        for name, style in QUADRANTS.items()
        if name in present
    ]
    figure.legend(
        handles=handles, loc="upper center", bbox_to_anchor=(0.5, y), ncols=min(3, len(handles)),
        handletextpad=0.1, columnspacing=1.0, borderaxespad=0.0,
    )  # fmt: skip


def cost_axis(ax: Axes, values: Sequence[float]) -> float:
    """A logarithmic x-axis over ``values`` (NaN left out) on which 0 has a place at the left; returns that place.

    Labels stand at powers of 1,000, or at the ends where there are fewer than two: narrow panels have room for few.
    Small ticks at every power and between say that it is logarithmic.
    """
    positive = [value for value in values if value > 0]
    first = math.floor(math.log10(min(positive, default=1.0)))
    last = max(math.log10(max(positive, default=1.0)) + 0.4, first + 1.0)
    zero = float(10.0 ** (first - 0.6))
    zeros = any(value == 0 for value in values)
    ax.set_xscale("log")
    ax.set_xlim(10.0 ** (first - (1.0 if zeros else 0.3)), 10.0**last)
    top = math.floor(last)
    powers = range(first + 1 if zeros and top > first + 1 else first, top + 1)
    thirds = [power for power in powers if power % 3 == 0]
    chosen = thirds if len(thirds) > 1 else sorted({powers[0], powers[-1]})
    between = [digit * 10.0**power for power in range(first, powers[-1] + 1) for digit in range(1, 10)]
    ax.xaxis.set_major_locator(FixedLocator([*([zero] if zeros else []), *(10.0**power for power in chosen)]))
    ax.xaxis.set_minor_locator(FixedLocator(between))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.tick_params(axis="x", which="minor", bottom=True, length=1.5, width=0.4, color=MUTED)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: "0" if x <= 1.01 * zero else thousands(x, _)))
    return zero


def thousands(value: float, _position: int | None = None) -> str:
    """``0.01``, ``100``, ``10k``: a tick's label."""
    if value >= 1000:
        return f"{value / 1000:g}k"
    return f"{value:g}" if value >= 0.001 or value <= 0 else f"$10^{{{math.log10(value):.0f}}}$"


@cache
def text_inches(text: str, points: float) -> float:
    """The width of a line of text in the figures' font."""
    if not text.strip():
        return 0.0
    return float(TextPath((0, 0), text, size=points, prop=FontProperties(family=FONT)).get_extents().width) / 72


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Positions in the order of ``wanted``, ``gap`` apart and within the bounds, with the least squared displacement.

    Pool-adjacent-violators on ``wanted[i] - i * gap`` in sorted order, clipped to the bounds, which makes it exact.
    Where the bounds are too tight, the gap holds and the top is passed.
    """
    order = np.argsort(wanted, kind="stable")
    blocks: list[tuple[float, int]] = []
    for rank, index in enumerate(order):
        mean, size = wanted[index] - rank * gap, 1
        while blocks and blocks[-1][0] >= mean:
            before, count = blocks.pop()
            mean, size = (before * count + mean * size) / (count + size), count + size
        blocks.append((mean, size))
    ceiling = high - (len(wanted) - 1) * gap
    flat = [max(min(mean, ceiling), low) for mean, size in blocks for _ in range(size)]
    placed = [0.0] * len(flat)
    for rank, index in enumerate(order):
        placed[index] = flat[rank] + rank * gap
    return placed


def names_at_ends(ax: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Name lines by (height at the right end, name, colour): from top to bottom as they end, and apart from another."""
    bottom, top = ax.get_ylim()
    left, edge = ax.get_xlim()
    height = ax.get_position().height * ax.figure.get_figure(root=True).get_figheight()
    step, place = (top - bottom) * NAME_POINTS * 1.15 / 72 / height, math.inf
    behind = edge + 0.06 * (edge - left)
    for value, name, color in sorted(ends, reverse=True):
        place = min(value, place - step)
        ax.plot([edge, behind], [value, place], color=MUTED, linewidth=0.4, clip_on=False)
        ax.text(behind, place, f" {name}", fontsize=NAME_POINTS, color=color, va="center")
    ax.set_xlim(left, edge)
    ax.set_ylim(bottom, top)
