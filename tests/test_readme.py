"""What the README says is so."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import prunebench.bench.cli  # noqa: F401 - registers every command
from prunebench.bench.cli.registry import _listing
from prunebench.bench.evaluation.rebuild import rebuilt, reopened
from prunebench.bench.evaluation.reproduce import differences
from prunebench.bench.evaluation.results import FIRST_COLUMNS, Results
from prunebench.figures.main_table import MainTable
from prunebench.figures.quadrant_table import QuadrantTable
from prunebench.figures.side_by_side import SideBySide

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PUBLISHED = ROOT / "docs" / "embedded"
SHOWN_PROBLEM = "13-0b0abd"


def test_its_snippets_run(tmp_path):
    solving, adding = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    adding += "print(Hesitation.quadrant())"
    for snippet, said in ((solving, r"\d+ \d+% of the tokens saved\n"), (adding, r"Quadrant\.III\n")):
        run = subprocess.run([sys.executable, "-c", snippet], capture_output=True, text=True, cwd=tmp_path)
        assert (run.returncode, run.stderr) == (0, "")
        assert re.fullmatch(said, run.stdout)


@pytest.mark.parametrize("command", ["make demo", "make test", "make real"])
def test_its_commands_are_targets(command):
    assert f"\n{command}\n" in README
    assert re.search(rf"^{command.split()[1]}:", (ROOT / "Makefile").read_text(), flags=re.M)


def test_continuous_integration_runs_the_test_command():
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_the_method_table_is_what_is_registered():
    columns, rows = _listing("methods")
    wanted = [row for row in rows if row[1] != "control"]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in [columns, ["---"] * len(columns), *wanted])
    page = (ROOT / "docs" / "methods.md").read_text()
    assert table in page, f"docs/methods.md should hold (prunebench list | cat):\n{table}"


def test_the_task_table_is_what_is_registered():
    columns, rows = _listing("tasks")
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in [columns, ["---"] * len(columns), *rows])
    assert table in (ROOT / "docs" / "own-dataset.md").read_text(), f"(prunebench list tasks | cat):\n{table}"


def test_the_results_table_is_what_the_comparison_wrote():
    results = Results.read(PUBLISHED / "results.json")
    assert results.command == "prunebench compare --config embedded --out runs/embedded"
    tables = MainTable(results).markdown()
    assert (PUBLISHED / "main_table.md").read_text() == tables
    assert (PUBLISHED / "main_table.csv").read_text() == results.csv()
    representatives = (PUBLISHED / "quadrant_table.md").read_text()
    assert representatives == QuadrantTable(results, "all").markdown()
    shown = "\n".join(row for row in representatives.splitlines() if "| oracle |" not in row)
    assert shown in README, f"the README should hold:\n{shown}"


def test_the_path_that_is_shown_was_cut_by_the_score_that_is_said():
    """What it writes is held to the model itself in tests/bench/engines/test_smollm2.py."""
    rows = pd.read_parquet(ROOT / "docs" / "real" / "decisions.parquet")
    pool = rows[(rows.method == "deepconf") & (rows.problem == SHOWN_PROBLEM)].set_index("path")
    kept = pool[pool.kept].score
    others = f"the eight that went on scored {kept.min():.2f} to {kept.max():.2f}"
    said = f"it scored {pool.score[0]:.2f} and\nwas cut, {others}"
    assert not pool.kept[0] and len(kept) == 8 and said in README


def test_what_stands_side_by_side_is_what_both_runs_say():
    runs = [Results.read(ROOT / "docs" / run / "results.json") for run in ("embedded", "base")]
    table, folder = SideBySide(runs), ROOT / "docs" / "results"
    assert (folder / "side_by_side.md").read_text() == table.markdown(), "prunebench report docs/embedded docs/base"
    assert (folder / "side_by_side.csv").read_text() == table.csv()
    for row in (row for run in runs for row in run.rows):
        for name in ("avg_at_k", "maj_at_k", "pass_at_k"):
            assert not (row[name].low < 0 or row[name].high > 100), f"{row.method} on {row.task}: {name}"


def test_nothing_lies_beside_the_pages_that_none_of_them_shows():
    """A file that no page leads to is not looked at when others are made again."""
    shown = {target.with_suffix("") for page in PAGES for target in links(page)}
    files = [file for folder in ("results", "screenshots", "thumbnails") for file in (ROOT / "docs" / folder).iterdir()]
    assert [file.name for file in files if file.with_suffix("") not in shown] == []


def test_the_published_comparison_was_made_with_the_shipped_files():
    from prunebench.bench.engines.options import model_digest
    from prunebench.bench.engines.shipped import WEIGHTS

    results = Results.read(PUBLISHED / "results.json")
    assert results.hashes["model"] == model_digest(str(WEIGHTS))
    assert results.left_out == {}


def test_the_columns_of_the_table_are_those_agreed_on():
    agreed = (
        "task,model,method,quadrant,n,k,prefix_tokens,avg_at_n,avg_at_k,avg_at_k_low,avg_at_k_high,delta,delta_low,"
        "delta_high,p_holm,maj_at_k,pass_at_k,tokens,reduction,auroc,headroom,launch_seconds,check_seconds,"
        "resume_seconds,paper_tokens,policy,finished,n_problems,avg_at_k_expected,maj_delta_low,maj_delta_high"
    )
    assert (PUBLISHED / "main_table.csv").read_text().splitlines()[0].startswith(agreed + ",")
    assert ",".join(FIRST_COLUMNS) == agreed


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def links(page):
    """The files that a page leads to."""
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())
    return [(page.parent / target).resolve() for target in targets if "://" not in target]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page):
    assert [target for target in links(page) if not target.exists()] == []


def test_every_page_is_reached_from_the_documentations_front_door():
    reached = {*links(ROOT / "docs" / "README.md"), ROOT / "docs" / "README.md"}
    assert {page for page in PAGES if page.parent.name == "docs"} <= reached


@pytest.mark.parametrize("run", ["embedded", "base", "aime", "real"])
def test_what_is_shown_can_be_made_again_from_what_is_shipped(run, monkeypatch):
    monkeypatch.setattr("prunebench.bench.evaluation.rebuild.load_engine", None)  # nobody needs the model
    shown = reopened(ROOT / "docs" / run)
    assert differences(shown.results, rebuilt(shown)) == []
