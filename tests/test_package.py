"""What is shipped is in the package: an installed one reads the same files as a checkout."""

import tomllib
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_file_of_the_packages_is_packed():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    for package in ("bench", "methods", "tasks", "figures"):
        folder = ROOT / package
        packed = set(chain.from_iterable(folder.glob(pattern) for pattern in declared.get(f"prunebench.{package}", [])))
        there = {
            path for path in folder.rglob("*")
            if path.is_file() and path.suffix not in (".py", ".pyc") and path.suffix != ".lock"
        }  # fmt: skip
        assert not sorted(there - packed), package
    assert (ROOT / "bench" / "reasoner" / "labels" / "power" / "manifest.json").exists()
