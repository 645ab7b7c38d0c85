"""Why prefixes can be pruned: potentials along the path, and how many paths are doomed at each length."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from prunebench.bench.evaluation.formats import with_interval
from prunebench.bench.evaluation.potential_curve import FALLEN, RISEN, Motivation
from prunebench.bench.evaluation.statistics import Interval
from prunebench.bench.files import csv_text
from prunebench.figures.registry import Drawing, figure
from prunebench.figures.run_folder import RunFolder
from prunebench.figures.style import FAINT, INK, MUTED, NAME_POINTS, WIDTH_INCHES, new_figure, theme

HEIGHT, TOP, FOOT, LEFT = 2.2, 0.40, 0.72, 0.42
RIGHT_COLOR, WRONG_COLOR = "#0072B2", "#D55E00"
THIN_LINES = 40
"""So many single paths are drawn behind the means, spread over the problems."""


def motivation_csv(measured: Motivation) -> str:
    """A line per length: mean potentials by outcome and the share of doomed paths, each with its interval."""
    columns = ["length"]
    for name in ("potential_if_right", "potential_if_wrong", "doomed_share"):
        columns += [name, f"{name}_low", f"{name}_high"]
    rows = []
    for length in measured.lengths:
        parts = (measured.mean_potential(length, True), measured.mean_potential(length, False), measured.doomed(length))
        rows.append([length, *(bound for part in parts for bound in (part.mean, part.low, part.high))])
    return csv_text(columns, rows)


def motivation(measured: Motivation) -> Figure:
    """Left: potential by length, paths that end right and wrong apart. Right: share of doomed paths."""
    wide = (WIDTH_INCHES - 2 * LEFT - 0.10) / 2
    with theme():
        figure = new_figure(HEIGHT)
        figure.text(0.02, 1 - 0.05 / HEIGHT, f"potential along the path: {len(measured.problems)} problems, "
                    f"{len(measured.paths)} paths, K = {measured.continuations}", va="top", fontsize=7.5)  # fmt: skip
        left = figure.add_axes((LEFT / WIDTH_INCHES, FOOT / HEIGHT, wide / WIDTH_INCHES, 1 - (FOOT + TOP) / HEIGHT))
        right = figure.add_axes(
            ((2 * LEFT + wide) / WIDTH_INCHES, FOOT / HEIGHT, wide / WIDTH_INCHES, 1 - (FOOT + TOP) / HEIGHT)
        )
        for path in measured.paths[:: max(1, len(measured.paths) // THIN_LINES)]:
            left.plot(measured.lengths, path.potential, color=FAINT, linewidth=0.4, zorder=1)
        for correct, color, name in ((True, RIGHT_COLOR, "ends right"), (False, WRONG_COLOR, "ends wrong")):
            _line(left, measured.lengths, [measured.mean_potential(n, correct) for n in measured.lengths], color, name)
        _line(right, measured.lengths, [measured.doomed(n) for n in measured.lengths], INK, "")
        for ax, title in ((left, "potential"), (right, "share of doomed paths")):
            ax.set(ylim=(-0.03, 1.03), yticks=[0, 0.5, 1], xlim=(0, measured.lengths[-1] * 1.04))
            ax.set_title(title, fontsize=7, pad=2, loc="left")
            ax.tick_params(pad=1, length=0)
        handles = [Line2D([], [], color=color, marker="o", markersize=2.6, label=name)
                   for name, color in (("ends right", RIGHT_COLOR), ("ends wrong", WRONG_COLOR))]  # fmt: skip
        left.legend(handles=handles, loc="center right", fontsize=NAME_POINTS, handlelength=1.0, borderaxespad=0.2)
        figure.text(0.5, 0.40 / HEIGHT, "tokens of the path", ha="center", fontsize=7)
        for y, (begin, end, share) in zip(
            (0.19, 0.05),
            ((f"below {FALLEN:g}", f"above {RISEN:g}", measured.recovered()),
             (f"above {RISEN:g}", f"below {FALLEN:g}", measured.fell())),
            strict=True,
        ):  # fmt: skip
            percent = with_interval(share.scaled(100), 0)
            figure.text(0.02, y / HEIGHT, f"from {begin} to {end} one length later: {percent} %",
                        fontsize=NAME_POINTS, color=MUTED)  # fmt: skip
    return figure


@figure(
    "motivation", "The potential of a path along its length, and the share of doomed paths.",
    needs="prunebench study motivation", place=20,
)  # fmt: skip
def draw(run: RunFolder) -> Drawing:
    return Drawing(motivation(run.motivation), motivation_csv(run.motivation))


def _line(ax: Axes, lengths: list[int], values: list[Interval], color: str, name: str) -> None:
    ax.plot(lengths, [value.mean for value in values], color=color, marker="o", markersize=2.6, zorder=3, label=name)
    for length, value in zip(lengths, values, strict=True):
        ax.plot([length] * 2, [value.low, value.high], color=color, linewidth=0.8, alpha=0.6, zorder=2)
