"""A pruner in a package of its own: installed, listed, compared; and a broken one harms nobody."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "prunebench-repetition"


class Environment:
    """A virtual environment of its own that also sees this project and the packages of the running interpreter."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=False)
        self.bin = folder / "bin"
        packages = [entry for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")]
        (own,) = folder.glob("lib/python*/site-packages")
        (own / "prunebench").symlink_to(ROOT)
        (own / "project.pth").write_text("\n".join(packages) + "\n")
        self._script("prunebench", "from prunebench.bench.cli import main; main()")
        self._script("pip", "import runpy; runpy.run_module('pip', run_name='__main__', alter_sys=True)")

    def _script(self, name: str, body: str) -> None:
        script = self.bin / name
        script.write_text(f"#!{self.bin / 'python'}\n{body}\n")
        script.chmod(0o755)

    def run(self, *command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run a command with this environment's programs first, offline, on one thread."""
        variables = {
            **os.environ,
            "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}",
            "PIP_NO_INDEX": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "200",
        }
        for name in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME"):
            variables.pop(name, None)
        return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=variables)

    def install(self, source: Path) -> None:
        done = self.run("pip", "install", "--no-deps", "--no-build-isolation", str(source), cwd=source.parent)
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The example and a package that cannot be imported, both installed."""
    folder = tmp_path_factory.mktemp("packages")
    environment = Environment(folder / "environment")
    shutil.copytree(EXAMPLE, folder / "example")  # a build leaves files in its source
    environment.install(folder / "example")
    broken = folder / "broken"
    broken.mkdir()
    (broken / "broken_pruner.py").write_text("raise RuntimeError('no such accelerator')\n")
    (broken / "pyproject.toml").write_text(
        """
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "prunebench-broken"
version = "0.1.0"

[project.entry-points."prunebench.pruners"]
broken = "broken_pruner:Broken"

[tool.setuptools]
py-modules = ["broken_pruner"]
"""
    )
    environment.install(broken)
    return environment


def test_it_is_listed_and_the_broken_one_is_a_warning(installed, tmp_path):
    done = installed.run("prunebench", "list", "methods", "--markdown", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines()]
    assert [row[:4] for row in rows if row[0] == "repetition"] == [["repetition", "I", "no", "token_ids"]]
    assert not [row for row in rows if row[0] == "broken"]
    assert "method plugin 'broken' could not be loaded: no such accelerator" in done.stderr
    assert "Traceback" not in done.stderr


def test_its_row_is_in_the_main_table(installed, tmp_path):
    done = installed.run(
        "prunebench", "compare", "--methods", "repetition,random", "--problems", "1", "--n", "8", "--k", "2",
        "--out", "out", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with (tmp_path / "out" / "main_table.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["method"] == "repetition" and row["task"] == "all"]
    assert [(row["quadrant"], row["n"], row["k"], row["n_problems"]) for row in rows] == [("I", "8", "2", "4")]


def test_a_broken_one_that_is_asked_for_is_one_sentence(installed, tmp_path):
    done = installed.run("prunebench", "compare", "--methods", "broken", "--problems", "1", cwd=tmp_path)
    assert done.returncode == 2
    assert "'broken' could not be loaded: no such accelerator" in done.stderr
    assert "Traceback" not in done.stderr


def test_its_scores_by_hand_and_its_conformance(installed, tmp_path):
    # 3-grams: 123 231 312 123 231 has 3 kinds of 5; 777 777 has 1 of 2; two tokens have none.
    code = """
from dataclasses import replace
import numpy as np
from prunebench.methods.base import Setting, Signal
from prunebench.methods.check import check_pruner, example_pool
from prunebench.methods.registry import PRUNERS

kind = PRUNERS.get("repetition")
rows = tuple(np.array(row) for row in ([1, 2, 3, 1, 2, 3, 1], [7, 7, 7, 7], [5, 6]))
pool = replace(example_pool(3), signals={Signal.TOKEN_IDS: rows})
print(kind.__module__, kind().score(pool).tolist(), kind(1).score(pool).tolist())
print([check_pruner(one) for one in kind.configurations(Setting(12, 64, 6, 6))])
"""
    done = installed.run("python", "-c", code, cwd=tmp_path)
    assert done.stderr == ""
    first, second = done.stdout.splitlines()
    expected = f"prunebench_repetition {[-(1 - 3 / 5), -(1 - 1 / 2), 0.0]} {[-(1 - 3 / 7), -(1 - 1 / 4), 0.0]}"
    assert first.replace("-0.0", "0.0") == expected
    assert second == "[None, None, None, None]"
