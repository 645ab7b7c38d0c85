"""What pruning costs besides the paths: seconds and tokens of the check, arithmetic and memory of the whole problem."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from prunebench.bench.evaluation.ledger import LedgerRow
from prunebench.bench.evaluation.results import QuadrantName, Results, Row, rows_csv
from prunebench.bench.evaluation.statistics import Interval, mean_interval
from prunebench.figures.paper.marks import SOURCE, open_marker, published_check_seconds
from prunebench.figures.registry import Drawing, figure
from prunebench.figures.run_folder import RunFolder, Timing, mean_defined
from prunebench.figures.style import (
    FAINT,
    MUTED,
    NAME_POINTS,
    QUADRANTS,
    WIDTH_INCHES,
    cost_axis,
    dot,
    new_figure,
    quadrant_legend,
    text_inches,
    theme,
)

ROW_INCHES, GROUP_GAP, TOP, FOOT = 0.155, 0.5, 0.30, 0.86


class OverheadRow(Row):
    """Means per problem, seconds with their 95 % interval over problems; ``flops_percent`` of those of ``none``.

    ``check_tokens`` are all tokens that the method itself reads or writes: re-encoded, probe and check tokens.
    ``source`` tells measured rows from published ones, which state seconds of one batch (Table 16) and nothing else.
    """

    source: str
    method: str
    quadrant: QuadrantName
    n_problems: int
    check_seconds: Interval
    check_tokens: float = math.nan
    flops: float = math.nan
    flops_percent: float = math.nan
    peak_kv_bytes: float = math.nan


@figure(
    "overhead", "Seconds, tokens, arithmetic and memory that pruning costs.", published=True, place=100,
    needs="a run on this machine",
)  # fmt: skip
def draw(run: RunFolder, paper: bool) -> Drawing:
    parts = (run.results, run.ledger, run.timings, paper)
    return Drawing(overhead(*parts), rows_csv(overhead_rows(*parts)))


def overhead_rows(
    results: Results, ledger: Sequence[LedgerRow], timings: Sequence[Timing], paper: bool = False
) -> list[OverheadRow]:
    """A row per method of the results, in quadrants' order, cheapest check first; published types behind their own.

    Peak memory is the highest phase's, mean over problems. ``none`` is the unit of ``flops_percent``.
    """
    quadrants = {row.method: row.quadrant for row in results.rows}
    by_method: dict[str, list[LedgerRow]] = {}
    for entry in ledger:
        by_method.setdefault(entry.method, []).append(entry)
    whole = _flops(by_method.get("none", []))
    rows = []
    for method, quadrant in quadrants.items():
        entries = by_method.get(method, [])
        problems = {(entry.task, entry.problem) for entry in entries}
        seconds = [t.check_seconds for t in timings if t.method == method and not math.isnan(t.check_seconds)]
        check_tokens = sum(entry.reencoded_tokens + entry.probe_tokens + entry.check_tokens for entry in entries)
        flops = _flops(entries)
        rows.append(
            OverheadRow(
                source="measured",
                method=method,
                quadrant=quadrant,
                n_problems=len(problems),
                check_seconds=mean_interval(np.array(seconds), bounds=(0.0, math.inf)),
                check_tokens=check_tokens / len(problems) if problems else math.nan,
                flops=flops,
                flops_percent=100 * flops / whole if whole > 0 else math.nan,
                peak_kv_bytes=peak_kv_bytes(entries),
            )
        )
    if paper:
        rows += [
            OverheadRow(
                source=SOURCE, method=f"paper: type {quadrant}", quadrant=quadrant, n_problems=0,
                check_seconds=Interval(seconds, math.nan, math.nan),
            )
            for quadrant, seconds, _ in published_check_seconds()
        ]  # fmt: skip
    order = list(QUADRANTS)
    return sorted(rows, key=lambda row: (order.index(row.quadrant), row.source != "measured", _seconds(row)))


def _seconds(row: OverheadRow) -> float:
    """For sorting; undefined is last."""
    return math.inf if math.isnan(row.check_seconds.mean) else row.check_seconds.mean


def _flops(entries: Sequence[LedgerRow]) -> float:
    """Mean per problem over all phases."""
    problems = {(entry.task, entry.problem) for entry in entries}
    return sum(entry.flops for entry in entries) / len(problems) if problems else math.nan


def peak_kv_bytes(entries: Sequence[LedgerRow]) -> float:
    """The highest phase's, mean over the problems of one method's ``entries``."""
    peaks: dict[tuple[str, str], float] = {}
    for entry in entries:
        key = (entry.task, entry.problem)
        peaks[key] = max(peaks.get(key, 0.0), entry.peak_kv_bytes)
    return mean_defined(list(peaks.values()))


def overhead(results: Results, ledger: Sequence[LedgerRow], timings: Sequence[Timing], paper: bool = False) -> Figure:
    """Four panels, a row per method. ``paper`` adds Table 16 as open markers: seconds of a batch on an H100."""
    rows = overhead_rows(results, ledger, timings, paper)
    places, y, last = [], 0.0, rows[0].quadrant
    cuts = []
    for row in rows:
        if row.quadrant != last:
            cuts.append(y + 0.5 - GROUP_GAP / 2)
            y -= GROUP_GAP
        places.append((y, row))
        y, last = y - 1, row.quadrant
    foot = FOOT + (0.28 if paper else 0.0)
    height = TOP + ROW_INCHES * -y + foot
    margin = (max(text_inches(row.method, NAME_POINTS) for row in rows) + 0.09) / WIDTH_INCHES
    gap = 0.035
    wide = (1 - margin - 0.03 - 3 * gap) / 4
    measured = max((row.n_problems for row in rows), default=0)
    with theme():
        figure = new_figure(height)
        figure.suptitle(f"cost of pruning: means over {measured} problems", x=0.02, y=1 - 0.06 / height, ha="left",
                        va="top", fontsize=7.5)  # fmt: skip
        for index, (label, value, logarithmic) in enumerate(_PANELS):
            ax = figure.add_axes((margin + index * (wide + gap), foot / height, wide, ROW_INCHES * -y / height))
            _panel(ax, places, value, logarithmic)
            ax.set_xlabel(label, fontsize=6.5, labelpad=2, linespacing=1.0)
            ax.set_ylim(y + 0.4, 0.6)
            ax.grid(visible=False, axis="y")
            ax.set_yticks([place for place, _ in places], [row.method for _, row in places], fontsize=NAME_POINTS)
            ax.tick_params(axis="y", length=0, pad=2, labelleft=index == 0)
            for cut in cuts:
                ax.axhline(cut, color=FAINT, linewidth=0.6, zorder=0)
        quadrant_legend(figure, {row.quadrant for row in rows}, (0.37 + (0.26 if paper else 0.0)) / height)
        if paper:
            figure.text(0.02, 0.05 / height, f"open: {SOURCE}, Table 16,\n7B model on an H100, batch of 16; "
                        "other hardware, not comparable", fontsize=NAME_POINTS, color=MUTED, va="bottom")  # fmt: skip
    return figure


_PANELS: tuple[tuple[str, Callable[[OverheadRow], float], bool], ...] = (
    ("check\n(s)", lambda row: row.check_seconds.mean, True),
    ("check\ntokens", lambda row: row.check_tokens, True),
    ("FLOPs\n(% of none)", lambda row: row.flops_percent, False),
    ("peak KV\n(MB)", lambda row: row.peak_kv_bytes / 1e6, False),
)


def _panel(
    ax: Axes, places: Sequence[tuple[float, OverheadRow]], value: Callable[[OverheadRow], float], logarithmic: bool
) -> None:
    """Dots; on a logarithmic axis zero has a place of its own at the left, marked 0."""
    numbers = [value(row) for _, row in places]
    zero = 0.0
    if logarithmic:
        zero = cost_axis(ax, numbers)
    else:
        ax.set_xlim(0, 1.12 * max([*(number for number in numbers if number > 0), 1e-9]))
        ax.xaxis.set_major_locator(MaxNLocator(2, steps=[1, 2, 5, 10]))
    for y, row in places:
        number = value(row)
        if math.isnan(number):
            continue
        x = max(number, zero)
        if row.source == "measured":
            dot(ax, x, y, row.quadrant)
        else:
            open_marker(ax, [x], [y], row.quadrant)
