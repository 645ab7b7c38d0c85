"""When which quadrant pays: what methods gain over the share of confident errors, which their model does not doubt."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from prunebench.bench.evaluation.rebuild import reopened
from prunebench.bench.evaluation.results import PURE, Representative, ResultRow
from prunebench.bench.evaluation.statistics import Interval
from prunebench.bench.evaluation.tables.shares import Crossing, crossings, share_rows
from prunebench.bench.evaluation.tables.versus import pairs_of
from prunebench.bench.files import csv_text
from prunebench.figures.registry import Drawing, figure
from prunebench.figures.run_folder import RunFolder
from prunebench.figures.style import INK, MUTED, NAME_POINTS, QUADRANTS, WIDTH_INCHES, names_at_ends, new_figure, theme

HEIGHT, LEFT, RIGHT, FOOT, LINE = 2.3, 0.38, 0.92, 0.36, 0.13
OTHERS = "#D2D2D2"
_LINES = {"I": "-", "II": "--", "III": ":", "IV": "-."}
Shares = Mapping[float, Sequence[ResultRow]]


@figure(
    "shares", "What methods gain over the share of confident errors, and where they change places.",
    needs="a run over several shares", place=15,
)  # fmt: skip
def draw(run: RunFolder) -> Drawing:
    written = reopened(run.path)
    told = written.records, written.replays, written.candidates, written.setting
    shares = share_rows(*told)
    chosen = [
        one for one in written.results.representatives if one.quadrant in PURE and one.method in written.replays.of
    ]
    return Drawing(shares_figure(shares, chosen, crossings(*told, pairs_of(chosen))), shares_csv(shares))


def shares_csv(shares: Shares) -> str:
    """A line per share (%) and method, with every metric."""
    cells = [{"share": f"{100 * share:g}", **row.flat()} for share, rows in shares.items() for row in rows]
    columns = list(dict.fromkeys(column for row in cells for column in row))
    return csv_text(columns, ([row.get(column, "") for column in columns] for row in cells))


def shares_figure(
    shares: Shares, representatives: Sequence[Representative], crossed: Sequence[Crossing] = ()
) -> Figure:
    """The gain over keeping all, a line per method; bands are 95 % over problems, of representatives only."""
    lines: dict[str, dict[float, Interval]] = {}
    for share, rows in shares.items():
        for row in rows:
            if row.quadrant in PURE and not math.isnan(row["p_holm"].mean):
                lines.setdefault(row.method, {})[100 * share] = row["delta"]
    named = {one.method: one.quadrant for one in representatives if one.method in lines}
    first = next(iter(shares.values()))[0]
    notes = [said for one in crossed if (said := _said(one, named))]
    height = HEIGHT + LINE * len(notes)
    top = 0.22 + LINE * (1 + len(notes))
    with theme():
        figure = new_figure(height)
        title = f"{first.n_problems} problems per share, N = {first.n}, k = {first.k}, L = {first.prefix_tokens}"
        figure.text(0.02, 1 - 0.06 / height, title, va="top", fontsize=7.5)
        for number, note in enumerate(notes or ["no crossing of the quadrants' representatives is established"]):
            figure.text(0.02, 1 - (0.22 + LINE * number) / height, note, va="top", fontsize=NAME_POINTS, color=MUTED)
        wide = (WIDTH_INCHES - LEFT - RIGHT) / WIDTH_INCHES
        ax = figure.add_axes((LEFT / WIDTH_INCHES, FOOT / height, wide, (height - FOOT - top) / height))
        for method, points in lines.items():
            at, means = list(points), [interval.mean for interval in points.values()]
            if method not in named:
                ax.plot(at, means, color=OTHERS, linewidth=0.5, zorder=1)
                continue
            style = QUADRANTS[named[method]]
            low, high = ([getattr(interval, end) for interval in points.values()] for end in ("low", "high"))
            ax.fill_between(at, low, high, color=style.color, alpha=0.15, linewidth=0)
            ax.plot(at, means, color=style.color, marker=style.marker, markersize=3, linewidth=1.1,
                    linestyle=_LINES[named[method]], zorder=3)  # fmt: skip
        ax.axhline(0, color=INK, linewidth=0.8)
        ax.set_xticks([100 * share for share in shares])
        ax.set_xlabel("share of confident errors (%)", labelpad=2)
        ax.set_ylabel("points over none", labelpad=2)
        ax.tick_params(length=0, pad=2)
        ends = [(list(lines[method].values())[-1].mean, f"{named[method]}  {method}", QUADRANTS[named[method]].color)
                for method in named]  # fmt: skip
        names_at_ends(ax, ends)
    return figure


def _said(crossing: Crossing, named: Mapping[str, str]) -> str | None:
    """Which of two is ahead where few errors are confident, and from which share the other is."""
    if math.isnan(crossing.at.mean):
        return None
    before, behind = crossing.method, crossing.other
    if crossing.none.mean < 0:
        before, behind = behind, before
    at = crossing.at
    return f"{before} leads up to {at.mean:.0f} % [{at.low:.0f}, {at.high:.0f}], {behind} from there"
