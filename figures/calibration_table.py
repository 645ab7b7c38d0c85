"""The table of calibration: scores that claim to be probabilities, and how far they are from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from prunebench.bench.evaluation.formats import number
from prunebench.bench.evaluation.results import Results
from prunebench.bench.files import csv_text, write_atomically
from prunebench.figures.table_text import markdown_table

HEADER = ("method", "held against", "ECE", "Brier")


@dataclass(frozen=True)
class CalibrationTable:
    """One row per method; the reliability curves stand beside it as CSV, one line per bin."""

    results: Results

    def markdown(self) -> str:
        if not self.results.calibration:
            return "No method of this comparison says with what probability a path comes out right.\n"
        rows = [[r.method, r.truth, number(r.ece, 3), number(r.brier, 3)] for r in self.results.calibration]
        return f"{markdown_table(HEADER, rows, texts=2)}\n{LEGEND}\n"

    def curves_csv(self) -> str:
        columns = ("task", "method", "truth", "low", "high", "count", "mean_score", "mean_truth")
        rows = ((row.task, row.method, row.truth, *cells) for row in self.results.calibration for cells in row.bins)
        return csv_text(columns, rows)

    def write(self, folder: Path) -> None:
        """``calibration_table.md`` and ``reliability.csv``."""
        write_atomically(folder / "calibration_table.md", self.markdown().encode())
        write_atomically(folder / "reliability.csv", self.curves_csv().encode())


LEGEND = (
    "ECE: mean distance of score and truth over ten bins of equal width. Brier: mean squared difference. Both over all "
    "prefixes of all problems; 0 is best. Ranking within a problem needs no calibration: see AUROC."
)
