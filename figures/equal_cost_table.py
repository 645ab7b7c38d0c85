"""The table of equal cost: every method with as many paths as the same budget pays for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.table import Table
from rich.text import Text

from prunebench.bench.evaluation.formats import number, p_value, with_interval
from prunebench.bench.evaluation.results import EqualCostRow, Results, rows_csv
from prunebench.bench.files import write_atomically
from prunebench.figures.style import QUADRANTS
from prunebench.figures.table_text import markdown_table, terminal_table

HEADER = ("method", "quadrant", "N", "k", "cost", "maj@k [95 %]", "Δ none [95 %]", "p (Holm)", "avg@k")

IN_TERMINAL = ("method", "N", "maj@k [95 %]", "Δ none [95 %]", "p (Holm)")
"""What fits into 80 characters."""


@dataclass(frozen=True)
class EqualCostTable:
    """Rows in the order of the main table. Δ none is the paired difference to ``none`` at its own N."""

    results: Results

    def rows(self) -> list[list[str]]:
        return [self._cells(row) for row in self.results.equal_cost]

    def _cells(self, row: EqualCostRow) -> list[str]:
        return [
            row.method,
            row.quadrant,
            f"{'≥ ' if row.capped else ''}{row.n}",
            number(row.k),
            number(row.cost, 0),
            with_interval(row.maj_at_k),
            with_interval(row.maj_delta, signed=True),
            p_value(row.p_holm),
            number(row.avg_at_k),
        ]

    @property
    def caption(self) -> str:
        """What is held equal, in a sentence."""
        first = self.results.equal_cost[0]
        title = "all tasks pooled" if first.task == "all" else first.task
        return (
            f"equal cost: {title}, {first.n_problems} problems, at most {first.budget:,.0f} generator tokens per "
            f"problem (pools drawn {self._draws()} from {first.stored_paths} paths)"
        )

    def _draws(self) -> str:
        """``once`` or ``4 times``, with the methods whose pools were drawn another number of times."""
        by_number: dict[int, list[str]] = {}
        for row in self.results.equal_cost:
            by_number.setdefault(row.draws, []).append(row.method)
        usual = max(by_number, key=lambda number: len(by_number[number]))
        others = (f"{', '.join(names)}: {number}" for number, names in by_number.items() if number != usual)
        said, times = "; ".join(others), "once" if usual == 1 else f"{usual} times"
        return f"{times} ({said})" if said else times

    def markdown(self) -> str:
        return f"### {self.caption}\n\n{markdown_table(HEADER, self.rows(), texts=2)}\n{LEGEND}\n"

    def terminal(self) -> Table:
        """For a terminal, the quadrants in their colours."""
        table = terminal_table(self.caption)
        for header in IN_TERMINAL:
            table.add_column(header, justify="left" if header == "method" else "right", no_wrap=True)
        for cells, row in zip(self.rows(), self.results.equal_cost, strict=True):
            shown = dict(zip(HEADER, cells, strict=True))
            name = Text(shown["method"], style=QUADRANTS[row.quadrant].color)
            table.add_row(name, *(shown[header] for header in IN_TERMINAL[1:]))
        return table

    def write(self, folder: Path) -> None:
        """``equal_cost_table.md`` and ``.csv``."""
        write_atomically(folder / "equal_cost_table.md", self.markdown().encode())
        write_atomically(folder / "equal_cost_table.csv", rows_csv(self.results.equal_cost).encode())


LEGEND = (
    "N: the largest pool that the budget pays for at the same retention ratio; ≥: all stored paths cost less. k: kept "
    "paths, a mean. cost: arithmetic of all phases in tokens of the generator. maj@k: accuracy of the majority vote. "
    "Δ none: paired difference to none with its own N at the same cost. p: sign-flip permutation, Holm over all "
    "candidates."
)
