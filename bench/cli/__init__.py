"""The command line: one file per group of commands, in the order of the help page."""

# isort: off
from prunebench.bench.cli import results, compare, experiment, solve, rollouts, train, guideline, study, tasks
from prunebench.bench.cli import registry, perf

# isort: on
from prunebench.bench.cli.app import main

__all__ = [
    "compare",
    "experiment",
    "guideline",
    "main",
    "perf",
    "registry",
    "results",
    "rollouts",
    "solve",
    "study",
    "tasks",
    "train",
]
