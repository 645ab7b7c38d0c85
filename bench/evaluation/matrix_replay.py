"""Policies over completed paths, replayed on public matrices of answers and token counts."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from prunebench.bench.errors import UserError
from prunebench.bench.evaluation.replay import replay
from prunebench.bench.policies import AdaptiveConsistency, EarlyStoppingConsistency, Policy
from prunebench.bench.policies.procedures import CompletedAnswers
from prunebench.bench.policies.votes import Majority
from prunebench.bench.rollouts.importers.contract import Options, SourceProblem
from prunebench.bench.rollouts.importers.matrix import read
from prunebench.bench.rollouts.records import Complete
from prunebench.tasks.imported import ImportedTask


@dataclass(frozen=True)
class ReplayRow:
    """One method on one task, means over the shuffles.

    ``accuracy`` in %: of the majority, the expected value where it is tied. ``tokens`` and ``longest_path``: tokens of
    all launched paths and of the longest one, means over the problems.
    """

    task: str
    method: str
    accuracy: float
    tokens: float
    longest_path: float


@dataclass(frozen=True)
class _Problem:
    """``lengths`` and ``classes`` int64 (paths,), the class of the gold answer being 0, -1 no answer."""

    lengths: NDArray[np.int64]
    classes: NDArray[np.int64]


def replay_matrix(
    path: Path, grading: str = "equivalence", shuffles: int = 100, paths: int = 64, window: int = 8
) -> list[ReplayRow]:
    """Self-consistency, ESC and adaptive-consistency on every task of ``path``, a file or folder of matrices.

    For every seed in 0 .. ``shuffles`` - 1 and every problem, a fresh ``random.Random(seed)`` shuffles all paths of the
    problem, and the first ``paths`` of them are replayed. ``window`` is that of ESC; adaptive-consistency asks for 0.95
    and may launch all ``paths``. ``grading`` as in :class:`tasks.imported.ImportedTask`. Raises UserError for a matrix
    that cannot be read, and for a problem with fewer than ``paths`` paths.
    """
    methods: dict[str, Policy] = {
        "self-consistency": EarlyStoppingConsistency(window=paths),  # one window holds all paths
        "esc": EarlyStoppingConsistency(window=window),
        "adaptive-consistency": AdaptiveConsistency(level=0.95, most=paths),
    }
    rows = []
    for name, sources in groupby(read(path, Options()), key=lambda source: source.task):
        problems = [_problem(source, grading, paths) for source in sources]
        for method, policy in methods.items():
            means = np.mean(list(_replayed(problems, policy, shuffles, paths)), axis=0)
            rows.append(ReplayRow(name, method, 100 * float(means[0]), float(means[1]), float(means[2])))
    return rows


def _problem(source: SourceProblem, grading: str, paths: int) -> _Problem:
    """The classes of all answers, found once: shuffles only permute them."""
    if len(source.paths) < paths:
        raise UserError(f"problem '{source.problem}' has {len(source.paths)} paths, {paths} are wanted; ask for fewer")
    try:
        task = ImportedTask(source.task, grading)
    except ValueError as error:
        raise UserError(str(error)) from error
    _, *classes = task.classes([source.gold, *(path.final_answer for path in source.paths)])
    return _Problem(np.array([path.length for path in source.paths], np.int64), np.array(classes, np.int64))


def _replayed(problems: list[_Problem], policy: Policy, shuffles: int, paths: int) -> Iterator[tuple[float, int, int]]:
    """Correctness, tokens and the longest path of every problem under every seed."""
    for problem in problems:
        for seed in range(shuffles):
            order = list(range(len(problem.lengths)))
            random.Random(seed).shuffle(order)
            rows = np.array(order[:paths])
            complete = Complete(problem.lengths[rows], problem.classes[rows], _no_prefixes)
            outcome = replay(CompletedAnswers(), policy, complete, 0)
            vote = Majority().elect(outcome.answer_class[outcome.keep])
            yield vote.correctness(0), int(outcome.decoded.sum()), int(outcome.decoded.max())


def _no_prefixes(position: int) -> NoReturn:
    raise ValueError(f"a matrix has no prefixes of {position} tokens")
