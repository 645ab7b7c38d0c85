"""The page: what each section says, and the one file that holds all of it."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from markupsafe import Markup

from prunebench.bench.errors import UserError
from prunebench.bench.evaluation.results import ResultRow
from prunebench.bench.files import write_atomically
from prunebench.bench.guideline.guideline import Guideline, read_guidelines
from prunebench.bench.progress import SILENT, Progress
from prunebench.figures.equal_cost_table import HEADER as EQUAL_COST_HEADER
from prunebench.figures.equal_cost_table import LEGEND as EQUAL_COST_LEGEND
from prunebench.figures.equal_cost_table import EqualCostTable
from prunebench.figures.gallery import draw_figures
from prunebench.figures.main_table import columns
from prunebench.figures.overhead import peak_kv_bytes
from prunebench.figures.registry import figures
from prunebench.figures.report.explorer import explorer, packed
from prunebench.figures.report.summary import answer, summary
from prunebench.figures.report.template import SortableCell, page_of, sortable
from prunebench.figures.run_folder import RunFolder, mean_defined
from prunebench.figures.style import QUADRANTS, rows_of

OPENING = ("forest", "frontier")
"""The pictures that stand beside the answer."""
FITTING = 3
"""The columns up to this priority are shown at once: six."""
SORTED_BY = "Δ none [95 %]"


def write_report(run: Path, out: Path, extras: dict[str, Path] | None = None, progress: Progress = SILENT) -> Path:
    """Write the page of a run folder to ``out``, and its figures (PNG, SVG, CSV) into a folder beside it.

    That is ``figures`` in the run itself, elsewhere ``NAME_files`` for ``NAME.html``.

    Raises UserError where there are no results of this version; then nothing is written.
    """
    folder = run / "figures" if out.parent == run else out.with_name(f"{out.stem}_files")
    page = render(RunFolder(run, extras or {}), folder, progress)
    write_atomically(out, page.encode())
    return out


def render(run: RunFolder, folder: Path, progress: Progress) -> str:
    """The page as text: no address is loaded from anywhere, and every text of models and files is escaped.

    Figures are drawn into ``folder``; ``progress`` counts them.
    """
    results, task = run.results, run.task
    paths = explorer(run)
    guidelines = guidelines_of(run)
    return page_of(
        "report.html",
        title=f"{rows_of(results, task)[0].model}: {', '.join(results.problems)}",
        answer=answer(results, task),
        summary=summary(results, task),
        header=[{"name": column.header, "first": column.priority <= FITTING} for column in columns()],
        rows=[main_cells(row) for row in best_first(rows_of(results, task))],
        sorted_by=SORTED_BY,
        quadrants={name: style.label for name, style in QUADRANTS.items()},
        equal_cost=_equal_cost(run),
        pictures=pictures(run, folder, progress),
        guidelines=embedded([json.loads(guideline.model_dump_json()) for guideline in guidelines])
        if guidelines
        else None,
        ledger=ledger_lines(run),
        notes=[
            *(note.text for note in results.notes if note.task in ("", task)),
            *(f"{row.method}: {row.note}" for row in rows_of(results, task) if row.note),
        ],
        left_out=results.left_out,
        provenance=provenance(run),
        explorer=None if paths is None else Markup(packed(paths)),  # noqa: S704 - base64
        explorer_problems=0 if paths is None else len(paths["problems"]),
    )


def embedded(value: Any) -> Markup:
    """JSON for a script element: nothing in it can end the element or be read as markup."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704 - escaped above


def best_first(rows: Sequence[ResultRow]) -> list[ResultRow]:
    """By the difference to ``none``, undefined ones last: what the table is sorted by at first."""
    return sorted(rows, key=lambda row: (math.isnan(row["delta"].mean), -row["delta"].mean))


def main_cells(row: ResultRow) -> dict[str, Any]:
    """One row of the main table: cells, and what they sort by."""
    values = {
        "method": row.method, "quadrant": row.quadrant, "avg@k [95 %]": row["avg_at_k"].mean,
        "Δ none [95 %]": row["delta"].mean, "p (Holm)": row["p_holm"].mean,
    }  # fmt: skip
    cells = []
    for column in columns():
        text = column.cell(row)
        key = values.get(column.header, text)
        cells.append(SortableCell(text, sortable(key)))
    return {"quadrant": row.quadrant, "method": row.method, "cells": cells}


def _equal_cost(run: RunFolder) -> dict[str, Any] | None:
    if not run.results.equal_cost:
        return None
    table = EqualCostTable(run.results)
    rows = [[SortableCell(text, sortable(text)) for text in row] for row in table.rows()]
    return {"caption": table.caption, "header": EQUAL_COST_HEADER, "rows": rows, "legend": EQUAL_COST_LEGEND}


def pictures(run: RunFolder, folder: Path, progress: Progress) -> list[dict[str, Any]]:
    """Draws every figure that the run allows into ``folder``; the main table stands on the page as a table."""
    drawn = {path.stem: path for path in draw_figures(run, folder, progress=progress).written if path.suffix == ".png"}
    return [
        {
            "description": figure.description,
            "source": f"data:image/png;base64,{_base64(drawn[figure.name])}",
            "first": figure.name in OPENING,
        }
        for figure in figures()
        if figure.name in drawn and figure.name != "main_table"
    ]


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def guidelines_of(run: RunFolder) -> list[Guideline]:
    """Those of a sweep in or beside the run, else of the shipped reasoner that the run is about; may be none."""
    from prunebench.bench.engines.shipped import REASONERS

    model = run.results.rows[0].model
    shipped = REASONERS[model].guideline if model in REASONERS else None
    places = [] if shipped is None else [shipped]
    with suppress(UserError):
        places.insert(0, run.folder_of("sweep"))
    for place in places:
        with suppress(UserError):
            fitted = read_guidelines(place)
            if fitted and all(guideline.model_hash == run.results.hashes["model"] for guideline in fitted):
                return fitted
    return []


def ledger_lines(run: RunFolder) -> list[dict[str, Any]]:
    """Per method, means over the problems: tokens and arithmetic by phase, seconds."""
    try:
        rows, timings = run.ledger, run.timings
    except UserError:
        return []

    def pick(method: str, phase: str, field: str) -> list[float]:
        return [float(getattr(row, field)) for row in rows if (row.method, row.phase) == (method, phase)]

    lines = []
    for method in dict.fromkeys(row.method for row in rows):
        seconds = mean_defined([timing.check_seconds for timing in timings if timing.method == method])
        check = [row for row in rows if (row.method, row.phase) == (method, "check")]
        check_tokens = mean_defined([row.reencoded_tokens + row.probe_tokens + row.check_tokens for row in check])
        numbers = [
            mean_defined(pick(method, "launch", "decoded_tokens")), check_tokens,
            mean_defined(pick(method, "resume", "decoded_tokens")),
            sum(mean_defined(pick(method, phase, "flops")) for phase in ("launch", "check", "resume")) / 1e9,
            peak_kv_bytes([row for row in rows if row.method == method]) / 1e6, seconds,
        ]  # fmt: skip
        lines.append({"method": method, "cells": [SortableCell(_short(value), sortable(value)) for value in numbers]})
    return lines


def _short(value: float) -> str:
    if value != value:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def provenance(run: RunFolder) -> list[tuple[str, str]]:
    """How to make it again: command, seed, hashes, versions, machine."""
    results = run.results
    pairs: list[tuple[str, object]] = [
        ("command", results.command), ("seed", results.seed), ("device", results.device),
        *results.environment.items(), *((f"hash of {name}", value) for name, value in results.hashes.items()),
        *results.versions.items(), *((f"sampling {name}", value) for name, value in results.sampling.items()),
    ]  # fmt: skip
    return [(name, "" if value is None else str(value)) for name, value in pairs]
