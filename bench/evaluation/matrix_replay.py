"""Published policies over answers, as their sources set them, replayed on public matrices of answers and tokens."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from prunebench.bench.errors import UserError
from prunebench.bench.evaluation.replay import replay
from prunebench.bench.policies import AdaptiveConsistency, AnswerStreak, EarlyStoppingConsistency, Patience, Policy
from prunebench.bench.policies.procedures import CompletedAnswers
from prunebench.bench.policies.votes import Majority
from prunebench.bench.rollouts.importers.contract import Options, SourceProblem
from prunebench.bench.rollouts.importers.matrix import read
from prunebench.bench.rollouts.recorded_answers import answer_at
from prunebench.bench.rollouts.records import Complete
from prunebench.methods.base import Pruner, Signal
from prunebench.methods.pool import Pool
from prunebench.methods.surface.agreement import Agreement
from prunebench.tasks.imported import ImportedTask

ROUNDS = 100
"""So often a published policy asks at most, once every ``probe_freq`` tokens."""


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
    """``lengths`` and ``classes`` int64 (paths,), -1 no answer. ``gold``: the class of the gold answer, numbered behind
    all others: a policy that prefers the smaller of two classes must not learn it.

    ``forced`` int64 (rounds, paths): the classes of the answers that were forced after ``every`` tokens, twice as many,
    ...; none of either where nobody asked.
    """

    lengths: NDArray[np.int64]
    classes: NDArray[np.int64]
    gold: int
    forced: NDArray[np.int64]
    every: int

    def take(self, rows: NDArray[np.int64]) -> Complete:
        """Some of its paths, for a replay."""
        lengths, classes, forced = self.lengths[rows], self.classes[rows], self.forced[:, rows]
        none = np.zeros(0, np.int64)

        def at(position: int) -> Pool:
            ended = lengths <= position
            answers = forced[position // self.every - 1] if position <= self.every * len(forced) else classes
            return Pool(
                "", "", position, "", none, rows, np.minimum(lengths, position), ended,
                np.where(ended, classes, -1), {Signal.FORCED_ANSWERS: answers},
            )  # fmt: skip

        return Complete(lengths, classes, at)


def replay_matrix(
    path: Path, grading: str = "equivalence", shuffles: int = 100, paths: int = 64, window: int = 8
) -> list[ReplayRow]:
    """Self-consistency, ESC and adaptive-consistency on every task of ``path``, a file or folder of matrices.

    Where answers were forced along the paths, also what reads these, as zhengkid/Parallel-Probe sets it: every path for
    itself until 14 answers in a row are equal (``streak``), and ``parallel-probe``, which warms up for 15 rounds, drops
    what missed the mode 7 times in a row, and stops when the mode has been the same 41 times. Forced answers cost
    nothing, as there.

    For every seed in 0 .. ``shuffles`` - 1 and every problem, a fresh ``random.Random(seed)`` shuffles all paths of the
    problem, and the first ``paths`` of them are replayed. ``window`` is that of ESC; adaptive-consistency asks for 0.95
    and may launch all ``paths``. ``grading`` as in :class:`tasks.imported.ImportedTask`. Raises UserError for a matrix
    that cannot be read, and for a problem with fewer than ``paths`` paths.
    """
    try:
        ImportedTask("", grading)
    except ValueError as error:
        raise UserError(str(error)) from error
    methods: dict[str, Policy] = {
        "self-consistency": EarlyStoppingConsistency(window=paths),  # one window holds all paths
        "esc": EarlyStoppingConsistency(window=window),
        "adaptive-consistency": AdaptiveConsistency(level=0.95, most=paths),
    }
    rows = []
    for name, sources in groupby(read(path, Options(grading=grading)), key=lambda source: source.task):
        problems = [_problem(source, grading, paths) for source in sources]
        asking = _asking(problems[0].every) if all(len(problem.forced) for problem in problems) else {}
        for method, policy in (methods | asking).items():
            means = np.mean(list(_replayed(problems, policy, shuffles, paths)), axis=0)
            rows.append(ReplayRow(name, method, 100 * float(means[0]), float(means[1]), float(means[2])))
    return rows


def _problem(source: SourceProblem, grading: str, paths: int) -> _Problem:
    """The classes of all answers, found once: shuffles only permute them."""
    if len(source.paths) < paths:
        raise UserError(f"problem '{source.problem}' has {len(source.paths)} paths, {paths} are wanted; ask for fewer")
    every, count = source.probe_every or 1, len(source.paths)
    rounds = max(len(path.probed or ()) for path in source.paths)
    finals = [path.final_answer for path in source.paths]
    forced = [
        answer_at(path.probed, path.final_answer, path.length or 0, every * (number + 1), number)
        for number in range(rounds)
        for path in source.paths
    ]
    *classes, gold = ImportedTask(source.task, grading).classes([*finals, *forced, source.gold])
    return _Problem(
        np.array([path.length for path in source.paths], np.int64),
        np.array(classes[:count], np.int64),
        gold,
        np.array(classes[count:], np.int64).reshape(rounds, count),
        every,
    )


def _asking(every: int) -> dict[str, Policy]:
    """What reads forced answers; the first check of Parallel-Probe that counts is its second."""
    return {
        "streak": AnswerStreak(14, every=every, checks=ROUNDS),
        "parallel-probe": Patience(misses=7, warmup_checks=16, stable=41, every=every, checks=ROUNDS),
    }


def _replayed(problems: list[_Problem], policy: Policy, shuffles: int, paths: int) -> Iterator[tuple[float, int, int]]:
    """Correctness, tokens and the longest path of every problem under every seed."""
    for problem in problems:
        for seed in range(shuffles):
            order = list(range(len(problem.lengths)))
            random.Random(seed).shuffle(order)
            rows = np.array(order[:paths])
            pruner: Pruner = CompletedAnswers() if policy.over_completed else Agreement()
            outcome = replay(pruner, policy, problem.take(rows), problem.every)
            vote = Majority().elect(outcome.answer_class[outcome.keep])
            yield vote.correctness(problem.gold), int(outcome.decoded.sum()), int(outcome.decoded.max())
