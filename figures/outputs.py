"""The tables and figures of a comparison, beside its results."""

from __future__ import annotations

import hashlib
from pathlib import Path

from prunebench.bench.evaluation.results import Results
from prunebench.bench.files import write_atomically
from prunebench.figures.calibration_table import CalibrationTable
from prunebench.figures.equal_cost_table import EqualCostTable
from prunebench.figures.forest import forest
from prunebench.figures.frontier import frontier
from prunebench.figures.main_table import MainTable
from prunebench.figures.quadrant_table import QuadrantTable
from prunebench.figures.registry import figures
from prunebench.figures.score_quality import score_quality
from prunebench.figures.style import save
from prunebench.figures.vote_table import VoteTable

FILES = (
    "main_table.csv", "main_table.md", "main_table.tex", "quadrant_table.md", "vote_table.md", "calibration_table.md",
    "reliability.csv", "forest.png", "score_quality.png",
)  # fmt: skip
FRONTIER = ("frontier.png", "frontier.svg")
"""Where ``none`` took part, which all are held against."""


DRAWN = ".drawn"
"""The digest of the results that the files were made from; written last."""


def write_outputs(results: Results, out: Path) -> list[str]:
    """Write :data:`FILES` to ``out``, and :data:`FRONTIER`, unless they are there and made from these results.

    The report and the figures of earlier results are removed: they would show other numbers. Gives what went.
    """
    files = [*FILES, *(FRONTIER if results.frontier else ())]
    drawn, digest = out / DRAWN, hashlib.sha256(results.model_dump_json().encode()).hexdigest()
    if drawn.exists() and drawn.read_text() == digest and all((out / file).exists() for file in files):
        return []
    out.mkdir(parents=True, exist_ok=True)
    removed = _remove_earlier(out) if drawn.exists() and drawn.read_text() != digest else []
    MainTable(results).write(out)
    task = results.task
    QuadrantTable(results, task).write(out / "quadrant_table.md")
    VoteTable(results).write(out)
    CalibrationTable(results).write(out)
    if results.equal_cost:
        EqualCostTable(results).write(out)
    save(forest(results, task), out / "forest", formats=("png",))
    if results.frontier:
        save(frontier(results), out / "frontier")
    save(score_quality(results, task), out / "score_quality", formats=("png",))
    write_atomically(drawn, digest.encode())
    return removed


def _remove_earlier(out: Path) -> list[str]:
    """What was made of the results that were here before and is not written anew; gives its names."""
    figures_of = [out / "figures" / f"{entry.name}.{kind}" for entry in figures() for kind in ("png", "svg", "csv")]
    tables_of = [out / name for name in ("equal_cost_table.md", "equal_cost_table.csv", "vote_table.csv", *FRONTIER)]
    shown = [path for path in (out / "report.html", *figures_of) if path.exists()]
    for path in (*shown, *tables_of):
        path.unlink(missing_ok=True)
    return list(dict.fromkeys("figures" if path.parent != out else path.name for path in shown))
