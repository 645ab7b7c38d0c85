"""The command line: one file per group of commands, in the order of the help page."""

from prunebench.bench.cli import results, guideline, compare, rollouts, train, study, own, registry, perf  # isort: skip
from prunebench.bench.cli.app import main

__all__ = ["compare", "guideline", "main", "study", "own", "perf", "registry", "results", "rollouts", "train"]
