"""Everything that a comparison writes: tables, figures, and last the results that they were made from."""

from __future__ import annotations

from pathlib import Path

from bench.results import Results
from figures.main_table import MainTable
from figures.pareto import pareto
from figures.score_quality import score_quality
from figures.style import save

FILES = ("main_table.csv", "main_table.md", "main_table.tex", "pareto.png", "pareto.svg", "score_quality.png")


def write_outputs(results: Results, out: Path) -> None:
    """Write :data:`FILES` and ``results.json`` to ``out``, unless they are there and made from these results."""
    finished = out / "results.json"
    if finished.exists() and all((out / file).exists() for file in FILES):
        if Results.read(finished).hashes == results.hashes:
            return
        finished.unlink()
    out.mkdir(parents=True, exist_ok=True)
    MainTable(results).write(out)
    task = "all" if any(row.task == "all" for row in results.rows) else results.rows[0].task
    save(pareto(results, task), out / "pareto")
    save(score_quality(results, task), out / "score_quality", formats=("png",))
    results.write(finished)
