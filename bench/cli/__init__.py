"""The command line: one file per group of commands, in the order of the help page."""

from prunebench.bench.cli import compare, own, rollouts, train, guideline, figures, motivation, report, registry, perf  # isort: skip
from prunebench.bench.cli.app import main

__all__ = [
    "compare",
    "figures",
    "guideline",
    "main",
    "motivation",
    "own",
    "perf",
    "registry",
    "report",
    "rollouts",
    "train",
]
