"""Several comparisons on one page: a row per method, ranked over models and tasks."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from prunebench.bench.errors import UserError
from prunebench.bench.evaluation.formats import p_value, with_interval
from prunebench.bench.evaluation.metrics import ranks
from prunebench.bench.evaluation.results import POOLED, QuadrantName, ResultRow, Results
from prunebench.bench.evaluation.statistics import UNDEFINED, Interval, mean_interval
from prunebench.bench.files import write_atomically
from prunebench.bench.policies.procedures import PROCEDURES
from prunebench.figures.report.template import SortableCell, page_of, sortable
from prunebench.figures.side_by_side import SideBySide
from prunebench.figures.style import QUADRANTS, rows_of, theme

Pair = tuple[int, str]
"""A run and one of its tasks."""


@dataclass(frozen=True)
class Standing:
    """A method over all pairs of a model and a task: its mean rank, 1 the best, and its gains per run.

    ``rank`` is undefined for a method that is not in every comparison. ``gains``: the pooled rows, None where a run
    lacks the method.
    """

    method: str
    quadrant: QuadrantName
    rank: Interval
    gains: Sequence[ResultRow | None]


def standings(runs: Sequence[Results]) -> list[Standing]:
    """Every method but the controls, the best mean rank first.

    In every pair of a model and a task the methods that are in all of them and compete at equal retention are ranked by
    their avg@k, ties sharing their mean rank; procedures that nobody tuned keep as many paths as they like. The
    interval is over the pairs: it says how a method does elsewhere only as far as those are like these. Raises
    UserError where no method is in every comparison.
    """
    gains = {pair: found for run, results in enumerate(runs) for pair, found in _gains(run, results).items()}
    common = set.intersection(*(set(of_pair) for of_pair in gains.values()))
    if not common:
        raise UserError("no method besides the controls is in all of these comparisons: there is nothing to rank")
    names = [name for name in next(iter(gains.values())) if name in common]
    placed = np.array([ranks(-np.array([of_pair[name] for name in names]))[0] for of_pair in gains.values()])
    bounds = (1.0, float(len(names)))
    rank = {name: mean_interval(placed[:, column], bounds=bounds) for column, name in enumerate(names)}
    pooled = [{row.method: row for row in rows_of(results, results.task)} for results in runs]
    found = {row.method: row for of_run in pooled for row in of_run.values() if row.quadrant != "control"}
    lines = [
        Standing(name, row.quadrant, rank.get(name, UNDEFINED), [of_run.get(name) for of_run in pooled])
        for name, row in found.items()
    ]
    return sorted(lines, key=lambda line: (math.isnan(line.rank.mean), line.rank.mean))


def _gains(run: int, results: Results) -> Mapping[Pair, dict[str, float]]:
    """By task of a run, what its methods gain over keeping all; the pooled table counts for nothing beside others."""
    tasks = [task for task in dict.fromkeys(row.task for row in results.rows) if task != POOLED]
    tested = {row.method for row in results.rows if not math.isnan(row["p_holm"].mean)}
    apart = {name for name in PROCEDURES if name not in tested}
    return {
        (run, task): {
            row.method: row["delta"].mean
            for row in rows_of(results, task)
            if row.quadrant != "control" and not math.isnan(row["delta"].mean) and row.method not in apart
        }
        for task in tasks
    }


def write_leaderboard(runs: Sequence[Results], out: Path) -> Path:
    """Write the page of these comparisons to ``out``. Raises UserError as :func:`standings` does."""
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, leaderboard(runs).encode())
    return out


def leaderboard(runs: Sequence[Results]) -> str:
    """The page as text; nothing on it is loaded from anywhere."""
    lines = standings(runs)
    models = [run.rows[0].model for run in runs]
    pairs = sum(len(run.problems) for run in runs)
    header = ["method", "mean rank [95 %]"]
    for model in models:
        header += [f"{model}: Δ none [95 %]", "p (Holm)"]
    return page_of(
        "leaderboard.html",
        title=f"Leaderboard: {', '.join(dict.fromkeys(models))}",
        answer=_answer(lines, len(dict.fromkeys(models)), pairs),
        ranked=sum(not math.isnan(line.rank.mean) for line in lines),
        pairs=pairs,
        problems=[f"{rows_of(run, run.task)[0].n_problems} of {run.rows[0].model}" for run in runs],
        tasks=list(dict.fromkeys(task for run in runs for task in run.problems)),
        header=header,
        sorted_by=header[1],
        rows=[{"quadrant": line.quadrant, "method": line.method, "cells": _cells(line)} for line in lines],
        quadrants={name: QUADRANTS[name].label for name in QUADRANTS if name in {line.quadrant for line in lines}},
        picture={"description": "What every method gains over keeping all paths, by model.", "source": _picture(runs)},
    )


def _answer(lines: Sequence[Standing], models: int, pairs: int) -> str:
    first, *others = [line for line in lines if not math.isnan(line.rank.mean)]
    within = [line.method for line in others if line.rank.low <= first.rank.high]
    said = f"Over {pairs} pairs of a model and a task ({models} {'model' if models == 1 else 'models'}) {first.method} "
    said += f"has the best mean rank, {with_interval(first.rank)}"
    if math.isnan(first.rank.low):
        return f"{said}; so few pairs tell nothing of others."
    if not within:
        return f"{said}; no other method's interval reaches it."
    return f"{said}; the intervals of {len(within)} of {len(others)} others overlap with its own."


def _cells(line: Standing) -> list[SortableCell]:
    cells = [SortableCell(line.method, line.method), SortableCell(with_interval(line.rank), sortable(line.rank.mean))]
    for row in line.gains:
        if row is None:
            cells += [SortableCell("", ""), SortableCell("", "")]
        else:
            gain = with_interval(row["delta"], signed=True)
            cells.append(SortableCell(gain, sortable(row["delta"].mean)))
            cells.append(SortableCell(p_value(row["p_holm"].mean), sortable(row["p_holm"].mean)))
    return cells


def _picture(runs: Sequence[Results]) -> str:
    drawn = io.BytesIO()
    with theme():
        SideBySide(runs).figure().savefig(drawn, format="png", metadata={"Software": None})
    return f"data:image/png;base64,{base64.b64encode(drawn.getvalue()).decode()}"
