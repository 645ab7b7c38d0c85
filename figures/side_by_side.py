"""Comparisons of several models beside one another, and beside what the STOP paper published."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from prunebench.bench.evaluation.formats import number, with_interval
from prunebench.bench.evaluation.results import POOLED, ResultRow, Results, rows_csv
from prunebench.bench.files import write_atomically
from prunebench.figures.paper.marks import SOURCE, PublishedPoint, published_points
from prunebench.figures.style import (
    MUTED,
    QUADRANTS,
    caption,
    interval,
    names_margin,
    new_figure,
    quadrant_legend,
    rows_of,
    save,
    theme,
)
from prunebench.figures.table_text import markdown_table

ROW_INCHES = 0.15


@dataclass(frozen=True)
class SideBySide:
    """Tables over ``runs``: every method on every family, the quadrants, and the paper's quadrants beside them."""

    runs: Sequence[Results]

    def csv(self) -> str:
        """The rows of all runs, in the columns of the main table."""
        return rows_csv([row for run in self.runs for row in run.rows])

    def markdown(self) -> str:
        parts = ["## Accuracy of the kept paths\n", LEGEND]
        for run in self.runs:
            parts += [f"### {_heading(run)}\n", markdown_table(*self.accuracies(run), texts=2)]
        parts += ["## The vote\n", VOTE_LEGEND, markdown_table(*self.votes(), texts=1)]
        parts += ["## The quadrants, and the paper's\n", PAPER_LEGEND, markdown_table(*self.quadrants(), texts=4)]
        return "\n".join(parts)

    def accuracies(self, run: Results) -> tuple[list[str], list[list[str]]]:
        """Header and rows: avg@k with its interval per family, and the pooled difference to ``none``."""
        tasks = _tasks(run)
        rows = {(row.task, row.method): row for row in run.rows}
        header = ["method", "quadrant", *(task.rpartition("/")[2] for task in tasks), "Δ none [95 %]", "saved %"]
        lines = []
        for method in _methods(run):
            pooled = rows[tasks[-1], method]
            cells = [rows[task, method] for task in tasks]
            lines.append(
                [
                    method,
                    pooled.quadrant,
                    *(with_interval(row["avg_at_k"]) for row in cells),
                    with_interval(pooled["delta"], signed=True),
                    number(pooled["reduction"].mean),
                ]
            )
        return header, lines

    def votes(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows: pooled maj@k per run with its difference to ``none`` and to ``random`` at the same k."""
        header = ["method"]
        for run in self.runs:
            model = run.rows[0].model
            header += [f"{model}: maj@k", "Δ none [95 %]", "Δ random [95 %]"]
        rows = [_pooled(run) for run in self.runs]
        lines = []
        for method in dict.fromkeys(name for run in self.runs for name in _methods(run)):
            line = [method]
            for by_method in rows:
                row = by_method.get(method)
                line += ["", "", ""] if row is None else [
                    number(row["maj_at_k"].mean),
                    with_interval(row["maj_delta"], signed=True),
                    with_interval(row["maj_delta_random"], signed=True),
                ]  # fmt: skip
            lines.append(line)
        return header, lines

    def quadrants(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows: per run or published model and quadrant, the gain over ``none`` and the tokens saved."""
        header = ["source", "model", "quadrant", "method", "Δ none, points", "saved %"]
        lines = []
        for run in self.runs:
            rows = _pooled(run)
            for chosen in run.representatives:
                row = rows[chosen.method]
                gain = with_interval(row["delta"], signed=True)
                lines.append(["here", row.model, chosen.quadrant, chosen.method, gain, number(row["reduction"].mean)])
        for point in published_points():
            lines.append(_published(point))
        return header, lines

    def figure(self) -> Figure:
        """The pooled difference to ``none`` of every method but the controls, a panel per run; quadrants in order."""
        pooled = [_pooled(run) for run in self.runs]
        names = [name for run in self.runs for name in _methods(run)]
        rows = {
            name: next(by_method[name] for by_method in pooled if name in by_method) for name in dict.fromkeys(names)
        }
        shown = sorted(
            (row for row in rows.values() if row.quadrant != "control"),
            key=lambda row: (list(QUADRANTS).index(row.quadrant), names.index(row.method)),
        )
        ends = [
            value
            for by_method in pooled
            for row in shown
            if row.method in by_method
            for value in (by_method[row.method]["delta"].low, by_method[row.method]["delta"].high)
            if not math.isnan(value)
        ]
        top, foot = 0.44, 0.80
        height = top + ROW_INCHES * len(shown) + foot
        with theme():
            figure = new_figure(height)
            margin, gap, right = names_margin(shown), 0.03, 0.03
            wide = (1 - margin - right - gap * (len(pooled) - 1)) / len(pooled)
            for place, by_method in enumerate(pooled):
                left = margin + place * (wide + gap)
                ax = figure.add_axes((left, foot / height, wide, (height - top - foot) / height))
                ax.set_xlim(min([-5.0, *ends]) - 2, max([5.0, *ends]) + 2)
                ax.axvline(0.0, color=MUTED, linewidth=0.7, linestyle=(0, (3, 2)), zorder=1)
                for y, row in enumerate(shown):
                    if row.method in by_method:
                        of_run = by_method[row.method]
                        interval(
                            ax, of_run["delta"].mean, of_run["delta"].low, of_run["delta"].high, -y, of_run.quadrant
                        )
                ax.set_ylim(0.6 - len(shown), 0.6)
                ax.grid(visible=False, axis="y")
                ax.set_yticks([-y for y in range(len(shown))], [row.method for row in shown])
                ax.tick_params(axis="y", length=0, pad=2, labelleft=place == 0)
                first = next(iter(by_method.values()))
                ax.set_title(f"{first.model}\n{first.n_problems} problems", fontsize=7.0)
                ax.set_xlabel("Δ none, points", labelpad=2)
            quadrant_legend(figure, {row.quadrant for row in shown}, 0.35 / height)
        return figure

    def write(self, out: Path) -> None:
        """``side_by_side.md``, ``side_by_side.csv`` and the figure as PNG and SVG."""
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(out / "side_by_side.md", self.markdown().encode())
        write_atomically(out / "side_by_side.csv", self.csv().encode())
        save(self.figure(), out / "side_by_side")


def told_apart(runs: Mapping[Path, Results]) -> list[Results]:
    """The results in each folder; where several are of one model, it is named with the folder."""
    models = Counter(run.rows[0].model for run in runs.values())
    return [
        run
        if models[run.rows[0].model] == 1
        else run.model_copy(
            update={"rows": [row.model_copy(update={"model": f"{row.model} ({folder.name})"}) for row in run.rows]}
        )
        for folder, run in runs.items()
    ]


LEGEND = (
    "avg@k in % with its 95 % interval over problems; Δ none: the paired difference to keeping all paths, all families "
    "pooled; saved: tokens against none. Methods in the order of their quadrants, then by Δ none.\n"
)
VOTE_LEGEND = (
    "All families pooled: the accuracy of the vote over the kept paths, and what it gains over other voters.\n"
)
PAPER_LEGEND = (
    "Of every quadrant the method that ranked the validation problems best, with its 95 % interval. "
    f"Below them {SOURCE}, Table 2: means over the data sets of a model, published without intervals.\n"
)


def _heading(run: Results) -> str:
    rows = rows_of(run, run.task)
    return f"{rows[0].model}: {caption(rows, run.task)}"


def _pooled(run: Results) -> dict[str, ResultRow]:
    """By method, the row over all tasks, or of the only one."""
    return {row.method: row for row in rows_of(run, run.task)}


def _tasks(run: Results) -> list[str]:
    """The families, then all of them pooled; one task alone stands for itself."""
    tasks = list(dict.fromkeys(row.task for row in run.rows))
    return sorted(tasks, key=lambda task: task == POOLED)


def _methods(run: Results) -> list[str]:
    """Of the pooled table: the quadrants in their order, the best difference to ``none`` first."""
    order = list(QUADRANTS)
    return [
        row.method
        for row in sorted(
            rows_of(run, run.task), key=lambda r: (order.index(r.quadrant), -_or_zero(r["delta"].mean), r.method)
        )
    ]


def _or_zero(value: float) -> float:
    return 0.0 if math.isnan(value) else value


def _published(point: PublishedPoint) -> list[str]:
    gain, saved = number(point.gain, signed=True), number(100 - point.tokens_percent)
    return ["paper", point.model, point.quadrant, "", gain, saved]
