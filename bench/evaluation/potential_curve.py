"""Why prefixes can be pruned: the potential of a path along its length.

The same paths are cut at several lengths, and every prefix is continued K times. Two claims of the STOP paper
(arXiv 2604.16029, Section 2) can then be looked at: a potential that has fallen rarely rises again, and many paths are
doomed long before they end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from prunebench.bench.engines.base import Engine, Sampling
from prunebench.bench.errors import UserError
from prunebench.bench.evaluation.statistics import SHARE, Interval, mean_interval
from prunebench.bench.files import Document, csv_text, write_atomically
from prunebench.bench.progress import SILENT, Progress
from prunebench.bench.rollouts.label_store import Labels
from prunebench.bench.rollouts.labelling import Prefix, label_prefixes, prefixes_of
from prunebench.bench.rollouts.opening import first_problems, is_imported, require_model, task_of
from prunebench.bench.rollouts.store import RolloutStore, StoredProblem

Array = NDArray[np.float64]
FALLEN, RISEN = 0.25, 0.5
"""A potential below the first has fallen; above the second it has risen again."""


class MeasuredPath(BaseModel):
    """One path: ``potential`` and ``finished`` at every length of the experiment, and how it ended itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str
    problem: str
    path: int
    correct: bool
    potential: list[float]
    finished: list[bool]


class Motivation(Document):
    """All paths. A finished path's potential is its verdict; others are success rates of ``continuations``."""

    KIND = "motivation"
    COMMAND = "prunebench study motivation FOLDER"

    schema_version: Literal[1] = 1
    command: str
    model: str
    model_hash: str
    sampling: dict[str, Any]
    lengths: list[int]
    continuations: int
    paths: list[MeasuredPath]

    def write(self, out: Path) -> None:
        """``motivation.json``, and ``motivation.csv`` with a line per path and length."""
        columns = ("task", "problem", "path", "correct", "length", "potential", "finished")
        rows = (
            (path.task, path.problem, path.path, path.correct, length, path.potential[i], path.finished[i])
            for path in self.paths
            for i, length in enumerate(self.lengths)
        )
        write_atomically(out / "motivation.csv", csv_text(columns, rows).encode())
        self.save(out / "motivation.json")

    @property
    def problems(self) -> list[tuple[str, str]]:
        return list(dict.fromkeys((path.task, path.problem) for path in self.paths))

    def over_problems(self, value: Callable[[Sequence[MeasuredPath]], float]) -> Interval:
        """Mean and interval over the problems of what ``value`` gives for each; those where it is NaN are left out."""
        parts: dict[tuple[str, str], list[MeasuredPath]] = {key: [] for key in self.problems}
        for path in self.paths:
            parts[path.task, path.problem].append(path)
        values = np.array([value(part) for part in parts.values()])
        return mean_interval(values[~np.isnan(values)], bounds=SHARE)

    def mean_potential(self, length: int, correct: bool) -> Interval:
        """Of the paths that end right or wrong, at a length of the experiment."""
        at = self.lengths.index(length)
        return self.over_problems(lambda part: _mean([path.potential[at] for path in part if path.correct is correct]))

    def doomed(self, length: int) -> Interval:
        """Share of all paths of which no continuation comes right (a finished wrong path is doomed).

        K continuations without a success leave a success rate of up to 3/K possible (95 %).
        """
        at = self.lengths.index(length)
        return self.over_problems(lambda part: _mean([float(path.potential[at] == 0) for path in part]))

    def recovered(self) -> Interval:
        """Of the prefixes that have fallen below :data:`FALLEN`, how many are above :data:`RISEN` one length later."""
        return self._moves(lambda now: now < FALLEN, lambda later: later > RISEN)

    def fell(self) -> Interval:
        """Of the prefixes above :data:`RISEN`, how many are below :data:`FALLEN` one length later."""
        return self._moves(lambda now: now > RISEN, lambda later: later < FALLEN)

    def recovered_later(self) -> Interval:
        """Of the paths that have fallen below :data:`FALLEN`, how many are above :data:`RISEN` at any later length.

        A path counts once, from the first length at which it has fallen; :meth:`recovered` counts it at every length
        at which it is down, so that paths that stay down weigh most there.
        """
        return self._ever(lambda now: now < FALLEN, lambda later: later > RISEN)

    def fell_later(self) -> Interval:
        """Of the paths above :data:`RISEN`, how many are below :data:`FALLEN` at any later length, each path once."""
        return self._ever(lambda now: now > RISEN, lambda later: later < FALLEN)

    def _ever(self, begins: Callable[[float], bool], ends: Callable[[float], bool]) -> Interval:
        def share(part: Sequence[MeasuredPath]) -> float:
            ended = []
            for path in part:
                steps = zip(path.potential[:-1], path.finished, strict=False)
                first = next((at for at, (now, over) in enumerate(steps) if not over and begins(now)), None)
                if first is not None:
                    ended.append(float(any(ends(later) for later in path.potential[first + 1 :])))
            return _mean(ended)

        return self.over_problems(share)

    def _moves(self, begins: Callable[[float], bool], ends: Callable[[float], bool]) -> Interval:
        def share(part: Sequence[MeasuredPath]) -> float:
            steps = [
                (now, later)
                for path in part
                for now, later, over in zip(path.potential, path.potential[1:], path.finished, strict=False)
                if not over and begins(now)
            ]
            return _mean([float(ends(later)) for _, later in steps])

        return self.over_problems(share)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else math.nan


@dataclass(frozen=True)
class Selection:
    """What is measured: the first problems of every task, of each the first paths, and of these the prefixes."""

    lengths: tuple[int, ...]
    problems: int = 5
    paths: int = 16
    continuations: int = 16
    seed: int = 1

    def __post_init__(self) -> None:
        if len(self.lengths) < 2 or list(self.lengths) != sorted(set(self.lengths)) or self.lengths[0] < 1:
            raise UserError(f"prefix = {list(self.lengths)}: give two or more lengths, rising, above 0")
        for name in ("problems", "paths", "continuations"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} = {getattr(self, name)}: at least 1 is needed")


def measure_potential(
    engine: Engine,
    folder: Path,
    selection: Selection,
    out: Path,
    *,
    command: str = "",
    progress: Progress = SILENT,
) -> Motivation:
    """Label the prefixes of stored paths at every length; labels that lie in ``out`` are not made again.

    Raises UserError for a store of another model, or of rollouts that were made elsewhere.
    """
    store = RolloutStore.open(folder)
    if is_imported(store):
        raise UserError(f"{folder}: imported rollouts; their model is not at hand, so nothing goes on from a prefix")
    require_model(store, folder, engine)
    chosen = set(first_problems(store, selection.problems))
    stored = [problem for problem in store.read(hidden=False) if (problem.task, problem.problem) in chosen]
    prefixes = [
        prefix
        for problem in stored
        for length in selection.lengths
        for prefix in _prefixes(store, problem, length, selection.paths)
    ]
    labels = label_prefixes(
        engine,
        prefixes,
        out / "labels",
        continuations=selection.continuations,
        sampling=Sampling(**store.manifest["sampling"]),
        seed=selection.seed,
        progress=progress,
    )
    motivation = Motivation(
        command=command,
        model=str(store.manifest["model"]),
        model_hash=engine.digest,
        sampling=dict(store.manifest["sampling"]),
        lengths=list(selection.lengths),
        continuations=selection.continuations,
        paths=[path for problem in stored for path in _measured(problem, labels, selection)],
    )
    motivation.write(out)
    return motivation


def _prefixes(store: RolloutStore, stored: StoredProblem, length: int, paths: int) -> list[Prefix]:
    """The distinct prefixes of the first paths."""
    return prefixes_of(task_of(store, stored.task), replace(stored, paths=stored.paths[:paths]), length)


def _measured(stored: StoredProblem, labels: Labels, selection: Selection) -> list[MeasuredPath]:
    paths = stored.paths[: selection.paths]
    tokens = [path.token_ids for path in paths if path.token_ids is not None]
    by_length = [
        labels.lookup(stored.task, stored.problem, [ids[:length] for ids in tokens])[1] for length in selection.lengths
    ]
    return [
        MeasuredPath(
            task=stored.task,
            problem=stored.problem,
            path=path.path,
            correct=path.correct is True,
            potential=[round(float(rates[row]), 6) for rates in by_length],
            finished=[path.length <= length for length in selection.lengths],
        )
        for row, path in enumerate(paths)
    ]
