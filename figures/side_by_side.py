"""Comparisons of several models beside one another, and beside what the STOP paper published."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.results import ResultRow, Results, rows_csv
from bench.shards import write_atomically
from figures.main_table import number, with_interval
from figures.published_marks import SOURCE, PublishedPoint, published_points
from figures.style import QUADRANTS, caption

POOLED = "all"


@dataclass(frozen=True)
class SideBySide:
    """Tables over ``runs``: every method on every family, the quadrants, and the paper's quadrants beside them."""

    runs: Sequence[Results]

    def csv(self) -> str:
        """The rows of all runs, in the columns of the main table."""
        return rows_csv(ResultRow, [row for run in self.runs for row in run.rows])

    def markdown(self) -> str:
        parts = ["## Accuracy of the kept paths\n", LEGEND]
        for run in self.runs:
            parts += [f"### {_heading(run)}\n", _table(*self.accuracies(run))]
        parts += ["## The vote\n", VOTE_LEGEND, _table(*self.votes())]
        parts += ["## The quadrants, and the paper's\n", PAPER_LEGEND, _table(*self.quadrants())]
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
                    *(with_interval(row.avg_at_k, row.avg_at_k_low, row.avg_at_k_high) for row in cells),
                    with_interval(pooled.delta, pooled.delta_low, pooled.delta_high, signed=True),
                    number(pooled.reduction),
                ]
            )
        return header, lines

    def votes(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows: pooled maj@k per run with its difference to ``none`` and to ``random`` at the same k."""
        header = ["method"]
        for run in self.runs:
            model = run.rows[0].model
            header += [f"{model}: maj@k", "Δ none [95 %]", "Δ random [95 %]"]
        rows = [{row.method: row for row in run.rows if row.task == _tasks(run)[-1]} for run in self.runs]
        lines = []
        for method in dict.fromkeys(name for run in self.runs for name in _methods(run)):
            line = [method]
            for found in rows:
                row = found.get(method)
                line += ["", "", ""] if row is None else [
                    number(row.maj_at_k),
                    with_interval(row.maj_delta, row.maj_delta_low, row.maj_delta_high, signed=True),
                    with_interval(
                        row.maj_delta_random, row.maj_delta_random_low, row.maj_delta_random_high, signed=True
                    ),
                ]  # fmt: skip
            lines.append(line)
        return header, lines

    def quadrants(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows: per run or published model and quadrant, the gain over ``none`` and the tokens saved."""
        header = ["source", "model", "quadrant", "method", "Δ none, points", "saved %"]
        lines = []
        for run in self.runs:
            rows = {row.method: row for row in run.rows if row.task == _tasks(run)[-1]}
            for one in run.representatives:
                row = rows[one.method]
                gain = with_interval(row.delta, row.delta_low, row.delta_high, signed=True)
                lines.append(["here", row.model, one.quadrant, one.method, gain, number(row.reduction)])
        for point in published_points():
            lines.append(_published(point))
        return header, lines

    def write(self, out: Path) -> None:
        """``side_by_side.md`` and ``side_by_side.csv``."""
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(out / "side_by_side.md", self.markdown().encode())
        write_atomically(out / "side_by_side.csv", self.csv().encode())


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
    rows = [row for row in run.rows if row.task == _tasks(run)[-1]]
    return f"{rows[0].model}: {caption(rows, rows[0].task)}"


def _tasks(run: Results) -> list[str]:
    """The families, then all of them pooled; one task alone stands for itself."""
    tasks = list(dict.fromkeys(row.task for row in run.rows))
    return sorted(tasks, key=lambda task: task == POOLED)


def _methods(run: Results) -> list[str]:
    """Of the pooled table: the quadrants in their order, the best difference to ``none`` first."""
    rows, order = [row for row in run.rows if row.task == _tasks(run)[-1]], list(QUADRANTS)
    return [row.method for row in sorted(rows, key=lambda r: (order.index(r.quadrant), -_or_zero(r.delta), r.method))]


def _or_zero(value: float) -> float:
    return 0.0 if math.isnan(value) else value


def _published(point: PublishedPoint) -> list[str]:
    gain, saved = number(point.gain, signed=True), number(100 - point.tokens_percent)
    return ["paper", point.model, point.quadrant, "", gain, saved]


def _table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    ruler = ["---:" if "%" in cell or cell not in TEXTS else "---" for cell in header]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, ruler, *lines)) + "\n"


TEXTS = frozenset({"method", "quadrant", "source", "model"})
