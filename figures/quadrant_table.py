"""The quadrant table: one representative per quadrant, chosen on validation problems, beside the controls."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from prunebench.bench.evaluation.formats import number, p_value, with_interval
from prunebench.bench.evaluation.results import Results
from prunebench.bench.files import csv_text, write_atomically
from prunebench.figures.registry import Drawing, figure
from prunebench.figures.run_folder import RunFolder
from prunebench.figures.style import MUTED, QUADRANTS, caption, rows_of
from prunebench.figures.table_picture import table_picture
from prunebench.figures.table_text import markdown_table

CONTROLS = ("none", "random", "potential", "oracle")
HEADER = (
    "quadrant", "representative", "candidates", "validation AUROC", "avg@k [95 %]", "Δ none [95 %]", "p (Holm)",
    "maj@k", "saved %",
)  # fmt: skip


@figure("quadrant_table", "One representative per quadrant beside the controls.", place=40)
def draw(run: RunFolder) -> Drawing:
    rows = QuadrantTable(run.results, run.task).rows()
    colors: dict[str, str] = {name: style.color for name, style in QUADRANTS.items()}
    picture = table_picture(
        f"one method per quadrant, chosen on validation; {caption(rows_of(run.results, run.task), run.task)}",
        HEADER,
        rows,
        [colors.get(row[0], MUTED) for row in rows],
    )
    return Drawing(picture, csv_text(HEADER, rows))


NOBODY = (
    "No quadrant has a representative: none of these methods was chosen on validation problems (`prunebench train`; "
    "nothing can be trained for imported paths)."
)


@dataclass(frozen=True)
class QuadrantTable:
    """Rows of ``task``: the representatives in the order of the quadrants, then the controls that took part.

    The best of many on the test problems wins partly by their number, so the choice is made on validation problems and
    the number of candidates is printed.
    """

    results: Results
    task: str

    def rows(self) -> list[list[str]]:
        by_method = {row.method: row for row in rows_of(self.results, self.task)}
        lines = []
        for chosen in self.results.representatives:
            if chosen.method in by_method:
                auroc = number(chosen.validation_auroc, 2)
                lines.append((chosen.quadrant, chosen.method, str(chosen.candidates), auroc))
        lines += [("control", name, "", "") for name in CONTROLS if name in by_method]
        cells = []
        for line in lines:
            row = by_method[line[1]]
            cells.append(
                [
                    *line,
                    with_interval(row["avg_at_k"]),
                    with_interval(row["delta"], signed=True),
                    p_value(row["p_holm"].mean),
                    number(row["maj_at_k"].mean),
                    number(row["reduction"].mean),
                ]
            )
        return cells

    def markdown(self) -> str:
        table = markdown_table(HEADER, self.rows(), texts=2)
        return table if self.results.representatives else f"{table}\n{NOBODY}\n"

    def write(self, path: Path) -> None:
        write_atomically(path, self.markdown().encode())
