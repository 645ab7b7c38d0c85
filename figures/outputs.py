"""Everything that a comparison writes: tables, figures, and last the results that they were made from."""

from __future__ import annotations

from pathlib import Path

from prunebench.bench.evaluation.results import Results
from prunebench.figures.calibration_table import CalibrationTable
from prunebench.figures.equal_cost_table import EqualCostTable
from prunebench.figures.main_table import MainTable
from prunebench.figures.pareto import pareto
from prunebench.figures.policy_table import PolicyTable
from prunebench.figures.quadrant_table import QuadrantTable
from prunebench.figures.score_quality import score_quality
from prunebench.figures.style import save
from prunebench.figures.vote_table import VoteTable

FILES = (
    "main_table.csv", "main_table.md", "main_table.tex", "quadrant_table.md", "vote_table.md", "vote_table.csv",
    "calibration_table.md", "reliability.csv", "pareto.png", "pareto.svg", "score_quality.png",
)  # fmt: skip


def write_outputs(results: Results, out: Path) -> None:
    """Write :data:`FILES` and ``results.json`` to ``out``, unless they are there and made from these results."""
    finished = out / "results.json"
    held = Results.held(finished)
    if held is not None and held.hashes == results.hashes and all((out / file).exists() for file in FILES):
        return
    finished.unlink(missing_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    MainTable(results).write(out)
    task = results.task
    QuadrantTable(results, task).write(out / "quadrant_table.md")
    VoteTable(results).write(out)
    CalibrationTable(results).write(out)
    if results.equal_cost:
        EqualCostTable(results).write(out)
    if results.policies:
        PolicyTable(results).write(out)
    save(pareto(results, task), out / "pareto")
    save(score_quality(results, task), out / "score_quality", formats=("png",))
    results.write(finished)
