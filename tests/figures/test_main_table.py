from __future__ import annotations

import csv
import io
import math
import re
from pathlib import Path

import pytest
from rich.console import Console

from prunebench.bench.evaluation.formats import number, p_value, seconds, with_interval
from prunebench.bench.evaluation.results import Results
from prunebench.bench.evaluation.statistics import Interval
from prunebench.figures.main_table import MainTable, columns, rich_by_task, rich_table

FIRST_COLUMNS = (
    "task,model,method,quadrant,n,k,prefix_tokens,avg_at_n,avg_at_k,avg_at_k_low,avg_at_k_high,delta,delta_low,"
    "delta_high,p_holm,maj_at_k,pass_at_k,tokens,reduction,auroc,headroom,launch_seconds,check_seconds,resume_seconds,"
    "paper_tokens,policy,finished,n_problems,avg_at_k_expected,maj_delta_low,maj_delta_high"
)


def text(renderable: object, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(renderable)
    output = console.file
    assert isinstance(output, io.StringIO)
    return output.getvalue()


@pytest.mark.parametrize(
    ("value", "decimals", "signed", "expected"),
    [
        (41.25, 1, False, "41.2"), (-3.0, 1, True, "−3.0"), (3.0, 1, True, "+3.0"), (math.nan, 1, True, "–"),
        (-0.04, 1, True, "0.0"), (0.04, 1, True, "0.0"), (14300.0, 0, False, "14300"), (-0.2, 0, False, "0"),
    ],
)  # fmt: skip
def test_numbers(value: float, decimals: int, signed: bool, expected: str) -> None:
    assert number(value, decimals, signed) == expected


def test_an_undefined_interval_leaves_the_number_alone() -> None:
    assert with_interval(Interval(1.0, math.nan, 2.0)) == "1.0"
    assert with_interval(Interval(math.nan, 1.0, 2.0)) == "–"
    assert with_interval(Interval(1.0, -1.0, 2.0), signed=True) == "+1.0 [−1.0, +2.0]"


def test_small_p_values_and_seconds_are_bounds_not_zeros() -> None:
    assert [p_value(0.0002), p_value(0.0123), p_value(math.nan)] == ["<0.001", "0.012", "–"]
    assert [seconds(0.0), seconds(0.00002), seconds(1.25), seconds(12.34)] == ["0.000", "<0.001", "1.250", "12.3"]


def test_csv_starts_with_the_agreed_columns(results: Results) -> None:
    lines = MainTable(results).csv().splitlines()
    assert lines[0].startswith(FIRST_COLUMNS + ",") or lines[0] == FIRST_COLUMNS
    assert len(lines) == 1 + len(results.rows)
    parsed = list(csv.DictReader(lines))
    assert parsed[0]["method"] == "none" and parsed[0]["auroc"] == "nan"


def test_markdown_has_one_table_per_task_with_every_method(results: Results) -> None:
    markdown = MainTable(results).markdown()
    assert markdown.count("### ") == 6 and markdown.index("### all tasks pooled") == 0
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len(lines) == len(results.rows) + 5 * 2
    cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines]
    assert {len(row) for row in cells} == {len(columns())}
    assert any("mix\\_of\\_everything" in line for line in lines)
    assert "nan" not in markdown


def test_markdown_shows_undefined_as_a_dash(results: Results) -> None:
    power = MainTable(results).markdown().split("### power")[1].split("###")[0]
    stop = next(line for line in power.splitlines() if line.startswith("| stop"))
    assert stop.split("|")[11].strip() == "–"


def test_notes_stand_under_their_task_or_under_all(results: Results) -> None:
    sections = MainTable(results).markdown().split("### ")
    assert "minimum detectable difference" in sections[1] and "trained at 20" in sections[1]
    assert "minimum detectable difference" not in "".join(sections[2:])
    assert "leaky prefixes" in sections[-1] and "no reward model" in sections[-1] and "topk:8" in sections[-1]


def test_latex_is_balanced_and_escaped(results: Results) -> None:
    latex = MainTable(results).latex()
    for name in ("table*", "tabular"):
        assert latex.count(f"\\begin{{{name}}}") == latex.count(f"\\end{{{name}}}") == 5
    rows = [line for line in latex.splitlines() if line.startswith("    ") and line.endswith(r"\\")]
    assert len(rows) == len(results.rows) + 5
    assert {len(re.split(r"(?<!\\)&", line)) for line in rows} == {len(columns())}
    assert r"mix\_of\_everything" in latex and not re.search(r"(?<!\\)_", latex)
    body = "\n".join(line for line in latex.splitlines() if not line.startswith("%"))
    assert not re.search(r"(?<!\\)%(?!\n)", body)
    assert body.count("{") == body.count("}")
    assert latex.isascii() and "nan" not in latex


def test_a_hostile_name_is_escaped(results: Results) -> None:
    hostile = results.rows[0].model_copy(update={"method": "a|b_c & 50% $x^2$ \\evil{~}"})
    table = MainTable(results.model_copy(update={"rows": [hostile]}))
    assert r"a\|b\_c & 50% $x^2$ \\evil{~}" in table.markdown()
    escaped = r"a|b\_c \& 50\% \$x\textasciicircum{}2\$ \textbackslash{}evil\{\textasciitilde{}\}"
    assert escaped in table.latex()


def test_write_leaves_three_files_and_nothing_else(results: Results, tmp_path: Path) -> None:
    written = MainTable(results).write(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["main_table.csv", "main_table.md", "main_table.tex"]
    assert [path.suffix for path in written] == [".csv", ".md", ".tex"]


@pytest.mark.parametrize("width", [80, 100, 160])
def test_the_terminal_table_fits_and_shows_every_method_whole(results: Results, width: int) -> None:
    output = text(rich_table(results, "all", width), width)
    assert max(len(line.rstrip()) for line in output.splitlines()) <= width
    methods = [row.method for row in results.rows if row.task == "all"]
    firsts = [line.split()[0] for line in output.splitlines() if line.strip()]
    assert [first for first in firsts if first in methods] == methods
    assert "…" not in output
    assert "stop" in output and "+11.7 [+9.6, +13.8]" in output


def test_a_wide_terminal_shows_all_columns(results: Results) -> None:
    output = text(rich_table(results, "all", 200), 200)
    assert all(column.header in output for column in columns())


def test_by_task_has_a_column_per_task(results: Results) -> None:
    output = text(rich_by_task(results), 100)
    stop = next(line for line in output.splitlines() if line.strip().startswith("stop"))
    assert stop.split() == ["stop", "55.8", "49.7", "63.2", "58.9", "51.5"]


def test_an_unknown_task_names_the_known_ones(results: Results) -> None:
    with pytest.raises(ValueError, match="no results for task 'aime'; tasks with results: all, recurrence"):
        rich_table(results, "aime")
