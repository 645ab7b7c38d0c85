"""How each figure of the catalogue is made from a run folder: the one place that knows which part feeds which figure.

Every function takes the run folder and whether published numbers are wanted, and returns the figure with its data.
"""

from __future__ import annotations

from prunebench.bench.files import csv_text
from prunebench.figures import ablations as draw_ablations
from prunebench.figures import attention as draw_attention
from prunebench.figures import budget as draw_budget
from prunebench.figures import law as draw_law
from prunebench.figures import motivation as draw_motivation
from prunebench.figures import overhead as draw_overhead
from prunebench.figures import pareto as draw_pareto
from prunebench.figures import reliability as draw_reliability
from prunebench.figures import retention as draw_retention
from prunebench.figures import score_quality as draw_score_quality
from prunebench.figures import taxonomy as draw_taxonomy
from prunebench.figures.ablations import ablations_csv
from prunebench.figures.budget import budget_csv
from prunebench.figures.catalogue import Drawn
from prunebench.figures.guideline_table import GuidelineTable
from prunebench.figures.law import law_csv
from prunebench.figures.main_table import COLUMNS, DASH
from prunebench.figures.motivation import motivation_csv
from prunebench.figures.overhead import overhead_csv, overhead_rows
from prunebench.figures.pareto import pareto_csv
from prunebench.figures.quadrant_table import HEADER, QuadrantTable
from prunebench.figures.reliability import reliability_csv
from prunebench.figures.retention import retention_csv
from prunebench.figures.run_folder import SHOWN, RunFolder
from prunebench.figures.score_quality import score_quality_csv
from prunebench.figures.style import MUTED, QUADRANTS, caption, rows_of
from prunebench.figures.table_picture import table_picture
from prunebench.figures.taxonomy import registered, taxonomy_csv

SHOWN_PRIORITY = 7
"""The picture of the main table has the columns up to this priority; its data have all of them."""


def taxonomy(run: RunFolder, paper: bool) -> Drawn:
    methods = registered()
    return Drawn(draw_taxonomy(methods), taxonomy_csv(methods))


def motivation(run: RunFolder, paper: bool) -> Drawn:
    return Drawn(draw_motivation(run.motivation), motivation_csv(run.motivation))


def main_table(run: RunFolder, paper: bool) -> Drawn:
    rows = rows_of(run.results, run.task)
    columns = [column for column in COLUMNS if column.priority <= SHOWN_PRIORITY]
    picture = table_picture(
        caption(rows, run.task),
        [column.header for column in columns],
        [[column.cell(row) for column in columns] for row in rows],
        [QUADRANTS[row.quadrant].color for row in rows],
        f"Δ none: paired difference, p by sign flips, Holm over all non-control methods; {DASH}: undefined",
    )
    return Drawn(picture, run.results.csv())


def quadrant_table(run: RunFolder, paper: bool) -> Drawn:
    rows = QuadrantTable(run.results, run.task).rows()
    colors: dict[str, str] = {name: style.color for name, style in QUADRANTS.items()}
    picture = table_picture(
        f"one method per quadrant, chosen on validation; {caption(rows_of(run.results, run.task), run.task)}",
        HEADER,
        rows,
        [colors.get(row[0], MUTED) for row in rows],
    )
    return Drawn(picture, csv_text(HEADER, rows))


def pareto(run: RunFolder, paper: bool) -> Drawn:
    return Drawn(draw_pareto(run.results, run.task, paper), pareto_csv(run.results, run.task, paper))


def budget(run: RunFolder, paper: bool) -> Drawn:
    sweep = run.sweep
    prefixes = sorted({cell.prefix for cell in sweep.cells})
    prefix = prefixes[(len(prefixes) - 1) // 2]
    quadrants = {one.name: one.quadrant for one in registered()}
    return Drawn(draw_budget(sweep, run.guidelines, prefix, quadrants), budget_csv(sweep, run.guidelines, prefix))


def retention(run: RunFolder, paper: bool) -> Drawn:
    method = SHOWN if SHOWN in run.sweep.methods else run.sweep.methods[0]
    return Drawn(draw_retention(run.sweep, method), retention_csv(run.sweep, method))


def law(run: RunFolder, paper: bool) -> Drawn:
    return Drawn(draw_law(run.guideline), law_csv(run.guideline))


def guideline_table(run: RunFolder, paper: bool) -> Drawn:
    table = GuidelineTable(run.guideline)
    return Drawn(table_picture(table.title, table.header, table.rows()), table.csv())


def overhead(run: RunFolder, paper: bool) -> Drawn:
    parts = (run.results, run.ledger, run.timings, paper)
    return Drawn(draw_overhead(*parts), overhead_csv(overhead_rows(*parts)))


def ablations(run: RunFolder, paper: bool) -> Drawn:
    return Drawn(draw_ablations(run.ablations, paper), ablations_csv(run.ablations, paper))


def score_quality(run: RunFolder, paper: bool) -> Drawn:
    return Drawn(draw_score_quality(run.results, run.task), score_quality_csv(run.results, run.task))


def reliability(run: RunFolder, paper: bool) -> Drawn:
    return Drawn(draw_reliability(run.results, run.task), reliability_csv(run.results, run.task))


def attention(run: RunFolder, paper: bool) -> Drawn:
    return Drawn(draw_attention(run.attention), run.attention.csv())
