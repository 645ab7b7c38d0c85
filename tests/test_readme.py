"""What the README says is so."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import prunebench.bench.cli  # noqa: F401 - registers every command
from prunebench.bench.cli.app import app
from prunebench.bench.cli.registry import _listing
from prunebench.bench.evaluation.results import FIRST_COLUMNS, Results
from prunebench.figures.main_table import MainTable

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
DEMO = ROOT / "docs" / "demo"


def test_its_snippets_run(tmp_path):
    (snippet,) = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    run = subprocess.run([sys.executable, "-c", snippet], capture_output=True, text=True, cwd=tmp_path)
    assert (run.returncode, run.stdout, run.stderr) == (0, "Quadrant.III\n", "")


@pytest.mark.parametrize("command", ["make demo", "make test"])
def test_its_commands_are_targets(command):
    assert f"\n{command}\n" in README
    assert re.search(rf"^{command.split()[1]}:", (ROOT / "Makefile").read_text(), flags=re.M)


def test_continuous_integration_runs_the_test_command():
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_every_command_of_the_table_exists():
    commands = {command.name or command.callback.__name__.rstrip("_") for command in app.registered_commands}
    commands |= {group.name for group in app.registered_groups}
    named = set(re.findall(r"^\| `prunebench ([\w-]+)", README, flags=re.M))
    assert len(named) > 6
    assert named <= commands


def test_the_method_table_is_what_is_registered():
    columns, rows = _listing("methods")
    wanted = [row for row in rows if row[1] != "control"]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in [columns, ["---"] * len(columns), *wanted])
    assert table in README, f"the README should hold (prunebench list | cat):\n{table}"


def test_the_task_table_is_what_is_registered():
    columns, rows = _listing("tasks")
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in [columns, ["---"] * len(columns), *rows])
    assert table in (ROOT / "docs" / "own-dataset.md").read_text(), f"(prunebench list tasks | cat):\n{table}"


def test_the_results_table_is_what_the_demo_wrote():
    results = Results.read(DEMO / "results.json")
    assert results.command == "prunebench demo"
    tables = MainTable(results).markdown()
    assert (DEMO / "main_table.md").read_text() == tables
    assert (DEMO / "main_table.csv").read_text() == results.csv()
    shown = tables.split("### ")[1].split("\n\n")[1]
    assert shown in README, f"the README should hold:\n{shown}"


def test_the_demo_was_made_with_the_shipped_files():
    from prunebench.bench.engines.options import model_digest
    from prunebench.bench.engines.shipped import WEIGHTS

    results = Results.read(DEMO / "results.json")
    assert results.hashes["model"] == model_digest(str(WEIGHTS))
    assert results.left_out == {}


def test_the_columns_of_the_table_are_those_agreed_on():
    agreed = (
        "task,model,method,quadrant,n,k,prefix_tokens,avg_at_n,avg_at_k,avg_at_k_low,avg_at_k_high,delta,delta_low,"
        "delta_high,p_holm,maj_at_k,pass_at_k,tokens,reduction,auroc,headroom,launch_seconds,check_seconds,"
        "resume_seconds,paper_tokens,policy,finished,n_problems,avg_at_k_expected,maj_delta_low,maj_delta_high"
    )
    assert (DEMO / "main_table.csv").read_text().splitlines()[0].startswith(agreed + ",")
    assert ",".join(FIRST_COLUMNS) == agreed


def test_every_link_leads_somewhere():
    targets = re.findall(r"\]\(([^)#]+)\)", README)
    assert targets
    assert all((ROOT / target).exists() for target in targets if "://" not in target)
