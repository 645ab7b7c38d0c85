from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from prunebench.bench.evaluation.formats import with_interval
from prunebench.bench.evaluation.results import Representative
from prunebench.figures.side_by_side import SideBySide, told_apart
from tests.figures.rows import changed


@pytest.fixture
def runs(results):
    """The same comparison by two models, in which the methods of one quadrant stand in another order."""
    chosen = [Representative(quadrant="IV", method="stop", validation_auroc=0.7, candidates=3)]
    small = results.model_copy(update={"representatives": chosen})
    rows = [
        changed(row, model="larger", delta=20.0 if row.method == "linear-probe" else row["delta"].mean)
        for row in results.rows
    ]
    return small, results.model_copy(update={"rows": rows, "representatives": chosen})


def test_every_method_stands_beside_itself_on_every_family(runs):
    table = SideBySide(runs)
    header, lines = table.accuracies(runs[0])
    assert header[:6] == ["method", "quadrant", "recurrence", "power", "congruence", "program"]
    assert [line[0] for line in lines if line[1] == "IV"] == ["stop", "linear-probe"]
    assert [line[0] for line in table.accuracies(runs[1])[1] if line[1] == "IV"] == ["linear-probe", "stop"]
    assert [line[1] for line in lines] == sorted(
        (line[1] for line in lines), key=["I", "II", "III", "IV", "mixed", "control"].index
    )
    stop = next(row for row in runs[0].rows if row.method == "stop" and row.task == "power")
    assert next(line for line in lines if line[0] == "stop")[3] == with_interval(stop["avg_at_k"])
    assert len(lines) == len({row.method for row in runs[0].rows})


def test_votes_leave_the_cells_of_a_model_empty_that_lacks_the_method(runs):
    small, larger = runs
    without = larger.model_copy(update={"rows": [row for row in larger.rows if row.method != "slim-sc"]})
    header, lines = SideBySide((small, without)).votes()
    assert header[1] == "embedded: maj@k" and header[4] == "larger: maj@k"
    assert next(line for line in lines if line[0] == "slim-sc")[4:] == ["", "", ""]
    assert all("" not in line for line in lines if line[0] != "slim-sc")


def test_the_paper_stands_beneath_what_was_measured(runs):
    _, lines = SideBySide(runs).quadrants()
    assert [line[:4] for line in lines[:2]] == [["here", "embedded", "IV", "stop"], ["here", "larger", "IV", "stop"]]
    assert ["paper", "DS-Qwen-2.5-1.5B", "IV", "", "+6.5", "72.7"] in lines  # mean of Table 2 over its five data sets


def test_the_files_hold_all_of_it(runs, tmp_path):
    SideBySide(runs).write(tmp_path)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "side_by_side.csv").read_text())))
    assert list(rows[0]) == list(runs[0].rows[0].flat())
    assert len(rows) == len(runs[0].rows) + len(runs[1].rows)
    text = (tmp_path / "side_by_side.md").read_text()
    assert {path.name for path in tmp_path.iterdir()} == {
        f"side_by_side.{kind}" for kind in ("md", "csv", "png", "svg")
    }
    assert [line for line in text.splitlines() if line.startswith("### ")] == [
        f"### {model}: all tasks pooled: 48 problems, N = 64, k = 8, L = 40" for model in ("embedded", "larger")
    ]


def test_the_figure_has_a_panel_per_model_and_an_interval_per_method(runs):
    small, larger = runs
    without = larger.model_copy(update={"rows": [row for row in larger.rows if row.method != "slim-sc"]})
    figure = SideBySide((small, without)).figure()
    left, right = figure.axes
    names = [label.get_text() for label in left.get_yticklabels()]
    assert names[0] == "slim-sc" and "none" not in names and len(names) == len(set(names))
    assert left.get_title() == "embedded\n48 problems"
    assert right.get_title() == "larger\n48 problems"
    assert left.get_xlim() == right.get_xlim()
    stop = next(row for row in small.rows if row.method == "stop" and row.task == "all")
    drawn = [line.get_xdata() for line in left.lines if set(line.get_ydata()) == {-names.index("stop")}]
    assert [stop["delta"].low, stop["delta"].high] in [list(xs) for xs in drawn]
    assert sum(0 in line.get_ydata() for line in right.lines[1:]) == 0, "slim-sc has no place there"


def test_runs_of_one_model_are_named_with_their_folders(runs):
    small, larger = runs
    models = [run.rows[0].model for run in told_apart({Path("a"): small, Path("b"): larger})]
    assert models == [small.rows[0].model, "larger"]
    twice = told_apart({Path("runs/a"): small, Path("runs/b"): small, Path("c"): larger})
    assert [run.rows[-1].model for run in twice] == [f"{models[0]} (a)", f"{models[0]} (b)", "larger"]
    assert "embedded (a): " in SideBySide(twice[:2]).markdown()
