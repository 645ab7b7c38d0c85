"""The wheel, installed: whole, found beside folders of the same names, and a pruner in a package of its own works."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.environment import Environment

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "prunebench-repetition"
FOLDERS = ("bench", "methods", "tasks", "figures")


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    return Environment(tmp_path_factory.mktemp("environment"))


@pytest.fixture(scope="module")
def wheel(environment, tmp_path_factory):
    """Built from the source distribution, which is built from a checkout in which mypy's link lies."""
    folder = tmp_path_factory.mktemp("build")
    checkout = folder / "checkout"
    for name in FOLDERS:
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__", "*.lock"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, checkout)
    (checkout / "build" / "typing").mkdir(parents=True)
    (checkout / "build" / "typing" / "prunebench").symlink_to("../..")
    build = "from setuptools.build_meta import build_sdist; build_sdist('..')"
    done = environment.run("python", "-c", build, cwd=checkout)
    assert done.returncode == 0, done.stderr
    (source,) = folder.glob("prunebench-*.tar.gz")
    environment.pip("wheel", str(source), cwd=folder)
    (built,) = folder.glob("prunebench-*.whl")
    return built


@pytest.fixture
def elsewhere(tmp_path):
    """A folder with packages of its own of the names that ours have in the repository."""
    for name in FOLDERS:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('a folder of the same name was imported')\n")
    return tmp_path


def test_the_wheel_holds_every_file_of_the_four_folders_under_one_name(wheel):
    with ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    there = {
        f"prunebench/{path.relative_to(ROOT).as_posix()}"
        for name in FOLDERS
        for path in (ROOT / name).rglob("*")
        if path.is_file() and path.suffix not in (".pyc", ".lock")
    }
    assert packed == there
    assert "prunebench/bench/reasoner/labels/power/manifest.json" in packed


@pytest.fixture(scope="module")
def installed(environment, wheel, tmp_path_factory):
    """The wheel, the example, and a package that cannot be imported."""
    folder = tmp_path_factory.mktemp("packages")
    environment.install(wheel)
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


def test_folders_of_the_same_names_are_left_alone(installed, elsewhere):
    code = "import prunebench.bench as bench; print(bench.__file__)"
    done = installed.run("python", "-c", code, cwd=elsewhere)
    assert done.stdout.strip() == str(installed.packages / "prunebench" / "bench" / "__init__.py"), done.stderr
    for command in (
        ("prunebench",),
        ("python", "-m", "prunebench.bench.cli"),
    ):  # the second looks into its folder first
        done = installed.run(*command, "list", "methods", cwd=elsewhere)
        assert done.returncode == 0, done.stderr
        assert "deepconf" in done.stdout and "repetition" in done.stdout


def test_it_is_listed_and_the_broken_one_is_a_warning(installed, tmp_path):
    done = installed.run("prunebench", "list", "methods", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines()]
    assert [row[:4] for row in rows if row[0] == "repetition"] == [["repetition", "I", "no", "token_ids"]]
    assert not [row for row in rows if row[0] == "broken"]
    assert "method plugin 'broken' could not be loaded: no such accelerator" in done.stderr
    assert "Traceback" not in done.stderr


def test_its_row_is_in_the_main_table(installed, elsewhere):
    done = installed.run(
        "python", "-m", "prunebench.bench.cli", "compare", "--methods", "repetition,random", "--task",
        "synthetic/power", "--problems", "1", "--n", "8", "--k", "2", "--out", "out", cwd=elsewhere,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with (elsewhere / "out" / "main_table.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["method"] == "repetition"]
    assert [(row["quadrant"], row["n"], row["k"], row["n_problems"]) for row in rows] == [("I", "8", "2", "1")]


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
from prunebench.methods.check import check_pruner
from prunebench.methods.examples import example_pool
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
