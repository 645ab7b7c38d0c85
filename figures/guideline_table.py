"""The guideline as a table: which retention ratio for which budget and prefix length (STOP paper, Tables 14 and 15)."""

from __future__ import annotations

from dataclasses import dataclass

from prunebench.bench.files import csv_text
from prunebench.bench.guideline.guideline import Guideline
from prunebench.figures.registry import Drawing, figure
from prunebench.figures.run_folder import RunFolder
from prunebench.figures.table_picture import table_picture
from prunebench.figures.table_text import markdown_table

REFUSED = "–"


@figure(
    "guideline_table", "The recommended N, k and ratio by budget and prefix length.", needs="prunebench sweep", place=90
)
def draw(run: RunFolder) -> Drawing:
    table = GuidelineTable(run.guideline)
    return Drawing(table_picture(table.title, table.header, table.rows()), table.csv())


@dataclass(frozen=True)
class GuidelineTable:
    """One row per budget, one column per prefix length, for one mean path length in tokens (default: their mean)."""

    guideline: Guideline
    task_length: float | None = None

    @property
    def length(self) -> float:
        lengths = self.guideline.lengths.values()
        return self.task_length or sum(lengths) / len(lengths)

    @property
    def header(self) -> list[str]:
        return ["budget C", *(f"Lp = {prefix}" for prefix in self.guideline.prefixes)]

    def rows(self) -> list[list[str]]:
        """``N → k (γ)`` by the form of least regret; a dash where it gives a ratio above 1."""
        return [
            [f"{budget:,.0f}", *(self._cell(budget, prefix) for prefix in self.guideline.prefixes)]
            for budget in self.guideline.budgets
        ]

    def _cell(self, budget: float, prefix: int) -> str:
        inverse = self.guideline.inverse_gamma(self.guideline.best_form, budget, prefix, self.length)
        if inverse < 1 or prefix >= self.length:
            return REFUSED
        n = int(budget / (prefix + (self.length - prefix) / inverse))
        return f"{n} → {max(1, round(n / inverse))} ({1 / inverse:.2f})" if n else REFUSED

    @property
    def title(self) -> str:
        return (
            f"{self.guideline.method} on {self.guideline.model}: N → k (γ) by the {self.guideline.best_form} form, "
            f"mean path {self.length:.0f} tokens"
        )

    def csv(self) -> str:
        return csv_text(self.header, self.rows())

    def markdown(self) -> str:
        return markdown_table(self.header, self.rows(), texts=len(self.header))
