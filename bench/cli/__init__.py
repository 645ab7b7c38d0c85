"""The command line: one file per group of commands, in the order of the help page."""

from prunebench.bench.cli import (
    results,
    compare,
    experiment,
    solve,
    rollouts,
    train,
    guideline,
    study,
    tasks,
    registry,
    perf,
)  # isort: skip
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
