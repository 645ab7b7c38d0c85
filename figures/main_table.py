"""The main table: one object that writes itself as CSV, Markdown and LaTeX, and as a table for the terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.table import Table
from rich.text import Text

from prunebench.bench.evaluation.columns import METRICS, Metric
from prunebench.bench.evaluation.formats import DASH, MINUS, number
from prunebench.bench.evaluation.results import ResultRow, Results
from prunebench.bench.evaluation.statistics import UNDEFINED
from prunebench.bench.files import write_atomically
from prunebench.figures.registry import Drawing, figure
from prunebench.figures.run_folder import RunFolder
from prunebench.figures.style import QUADRANTS, caption, rows_of
from prunebench.figures.table_picture import table_picture
from prunebench.figures.table_text import markdown_table, terminal_table


@dataclass(frozen=True)
class Column:
    """A column for readers. A narrow terminal leaves out the columns of the highest ``priority`` first, 0 never."""

    header: str
    cell: Callable[[ResultRow], str]
    priority: int = 0


def columns() -> list[Column]:
    """The method, every metric that is shown, and the policy."""
    shown = [metric for _, metric in METRICS.items() if metric.header]
    return [
        Column("method", lambda row: row.method),
        Column("quadrant", lambda row: row.quadrant, 5),
        *(Column(metric.header, partial(_cell, metric), metric.priority) for metric in shown),
        Column("policy", lambda row: row.policy, 9),
    ]


def _cell(metric: Metric, row: ResultRow) -> str:
    return metric.format(row.metrics.get(metric.name, UNDEFINED))


LEGEND = (
    "avg@k: mean accuracy of the k kept paths in %. Δ none: paired difference to none, which keeps all N paths and "
    "votes with all of them. p: sign-flip permutation, Holm over all candidates. maj@k: accuracy of the vote. "
    "pass@k: at least one kept path is right. tokens: decoded, re-encoded, probe and check tokens per problem; saved: "
    "against none. AUROC: within problems. tied: share of the problems whose cut falls into a tie. headroom: share of "
    "the potential control's gain. check s: seconds per problem to score. policy: what makes the score a choice; k is "
    f"its own. {DASH}: undefined."
)


PICTURED = 7
"""The picture has the columns up to this priority; its data have all of them."""


@figure("main_table", "The main table: accuracy, difference, cost, ranking.", place=30)
def draw(run: RunFolder) -> Drawing:
    rows = rows_of(run.results, run.task)
    shown = [column for column in columns() if column.priority <= PICTURED]
    picture = table_picture(
        caption(rows, run.task),
        [column.header for column in shown],
        [[column.cell(row) for column in shown] for row in rows],
        [QUADRANTS[row.quadrant].color for row in rows],
        f"Δ none: paired difference, p by sign flips, Holm over all candidates; {DASH}: undefined",
    )
    return Drawing(picture, run.results.csv())


@dataclass(frozen=True)
class MainTable:
    """The results as tables, grouped by task, notes underneath.

    A note of one task stands under its table, any other one under all of them.
    """

    results: Results

    @property
    def tasks(self) -> list[str]:
        """The pooled tasks first, then each task in the order of the rows."""
        tasks = list(dict.fromkeys(row.task for row in self.results.rows))
        return sorted(tasks, key=lambda task: task != "all")

    def csv(self) -> str:
        return self.results.csv()

    def markdown(self) -> str:
        """One section per task."""
        parts = []
        for task in self.tasks:
            rows = rows_of(self.results, task)
            parts.append(f"### {_markdown(caption(rows, task))}\n")
            parts.append(_markdown_rows(rows))
            notes = self._notes_of(task, rows)
            if notes:
                parts.append("\n".join(f"- {_markdown(note)}" for note in notes) + "\n")
        for task in dict.fromkeys(row.task for row in self.results.repeated):
            rows = [row for row in self.results.repeated if row.task == task]
            parts.append(f"### {_markdown(caption(rows, task))}, without finished and leaky prefixes\n")
            parts.append(_markdown_rows(rows))
        parts.append("### Notes\n")
        parts.append("\n".join(f"- {_markdown(note)}" for note in self._common_notes()) + "\n")
        return "\n".join(parts)

    def latex(self) -> str:
        """One ``table*`` per task; needs ``\\usepackage{booktabs,graphicx}``."""
        parts = ["% needs \\usepackage{booktabs,graphicx}\n"]
        for task in self.tasks:
            rows = rows_of(self.results, task)
            header = " & ".join(_latex(column.header) for column in columns())
            body = "\n".join("    " + " & ".join(_latex(c.cell(row)) for c in columns()) + r" \\" for row in rows)
            notes = [*self._notes_of(task, rows), *(self._common_notes() if task == self.tasks[-1] else [])]
            small = "".join(f"\n  \\par\\footnotesize {_latex(note)}" for note in notes)
            parts.append(
                "\\begin{table*}\n  \\centering\n"
                f"  \\caption{{{_latex(caption(rows, task))}}}\n  \\label{{tab:main-{_label(task)}}}\n"
                "  \\resizebox{\\linewidth}{!}{%\n"
                f"  \\begin{{tabular}}{{ll{'r' * (len(columns()) - 2)}}}\n"
                f"    \\toprule\n    {header} \\\\\n    \\midrule\n"
                f"{body}\n    \\bottomrule\n  \\end{{tabular}}}}{small}\n\\end{{table*}}\n"
            )
        return "\n".join(parts)

    def write(self, folder: Path) -> list[Path]:
        """Write ``main_table.csv``, ``.md`` and ``.tex``, each whole or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        written = []
        for suffix, text in (("csv", self.csv()), ("md", self.markdown()), ("tex", self.latex())):
            path = folder / f"main_table.{suffix}"
            write_atomically(path, text.encode())
            written.append(path)
        return written

    def _notes_of(self, task: str, rows: Sequence[ResultRow]) -> list[str]:
        of_task = [note.text for note in self.results.notes if note.task == task]
        return of_task + [f"{row.method}: {row.note}" for row in rows if row.note]

    def _common_notes(self) -> list[str]:
        common = [note.text for note in self.results.notes if note.task not in self.tasks]
        left_out = [f"left out: {method}: {reason}" for method, reason in self.results.left_out.items()]
        policies = "; ".join(dict.fromkeys(row.policy for row in self.results.rows))
        return [LEGEND, f"policy: {policies}", *common, *left_out]


def rich_table(results: Results, task: str = "all", width: int = 120) -> Table:
    """One task's table for a terminal ``width`` characters wide; columns that do not fit are left out whole."""
    rows = rows_of(results, task)
    fitting = _fitting(rows, width)
    table = terminal_table(caption(rows, task))
    for column in fitting:
        table.add_column(
            column.header, justify="left" if column.header in ("method", "quadrant") else "right", no_wrap=True
        )
    for index, row in enumerate(rows):
        cells: list[str | Text] = [column.cell(row) for column in fitting]
        cells[0] = Text(row.method, style=QUADRANTS[row.quadrant].color)
        last = index + 1 == len(rows) or rows[index + 1].quadrant != row.quadrant
        table.add_row(*cells, end_section=last and row.quadrant == "control")
    if hidden := [
        column.header.removesuffix(" [95 %]")
        for column in columns()
        if column.header not in {one.header for one in fitting}
    ]:
        table.caption = f"too wide for this terminal, and in main_table.md: {', '.join(hidden)}"
    return table


def rich_by_task(results: Results) -> Table:
    """Methods by tasks: avg@k alone, in the order of the rows."""
    tasks = MainTable(results).tasks
    value = {(row.method, row.task): number(row["avg_at_k"].mean) for row in results.rows}
    quadrants = {row.method: row.quadrant for row in results.rows}
    table = terminal_table("avg@k by task")
    table.add_column("method")
    for task in tasks:
        table.add_column(task, justify="right")
    for method, quadrant in quadrants.items():
        name = Text(method, style=QUADRANTS[quadrant].color)
        table.add_row(name, *(value.get((method, task), DASH) for task in tasks))
    return table


def _fitting(rows: Sequence[ResultRow], width: int) -> list[Column]:
    fitting = columns()
    needed = {c.header: max(len(c.header), *(len(c.cell(row)) for row in rows)) + 2 for c in fitting}
    while sum(needed[column.header] for column in fitting) > width:
        dropped = max(fitting, key=lambda column: column.priority)
        if dropped.priority == 0:
            break
        fitting.remove(dropped)
    return fitting


def _markdown_rows(rows: Sequence[ResultRow]) -> str:
    header = [_markdown(column.header) for column in columns()]
    return markdown_table(header, [[_markdown(column.cell(row)) for column in columns()] for row in rows], texts=2)


def _markdown(text: str) -> str:
    for character in "\\|*_`<>":
        text = text.replace(character, f"\\{character}")
    return text.replace("\n", " ")


_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
        "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
        DASH: "--", MINUS: "$-$", "Δ": r"$\Delta$", "\n": " ",
    }
)  # fmt: skip


def _latex(text: str) -> str:
    return text.translate(_LATEX)


def _label(task: str) -> str:
    return "".join(character if character.isalnum() else "-" for character in task)
