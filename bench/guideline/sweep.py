"""The sweep behind the guideline: retention ratio x prefix length x budget, by replay of many stored paths.

For every method, prefix length and problem all M stored paths are scored once. Then pools are drawn without
replacement, every retention ratio gets the largest N that the budget pays for, and the kept paths vote: maj@k|N, the
expected value over ties, mean over the draws. Only pruners whose scores do not depend on the other paths of the pool
can be replayed so (``Pruner.pointwise``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from prunebench.bench.engines.arithmetic import Arithmetic
from prunebench.bench.engines.base import Engine
from prunebench.bench.errors import UserError
from prunebench.bench.evaluation.candidates import refuse_learned
from prunebench.bench.evaluation.metrics import auroc
from prunebench.bench.evaluation.replays import missing_signal
from prunebench.bench.evaluation.tables.equal_cost import largest_affordable
from prunebench.bench.files import Document, csv_text, write_atomically
from prunebench.bench.guideline.pools import Pools, orders_of, token_cost
from prunebench.bench.guideline.scores import KeptScores, ScoredPaths
from prunebench.bench.policies import Ratio
from prunebench.bench.progress import SILENT, Progress, left_out_lines
from prunebench.bench.rollouts.opening import first_problems, most_compared, task_of, too_short
from prunebench.bench.rollouts.pools import record_of
from prunebench.bench.rollouts.store import IMPORTED, RolloutStore
from prunebench.bench.training.cards import refuse_leak
from prunebench.bench.training.loading import Judges, Learned, Loaded, load_method, reads_of
from prunebench.methods.base import Pruner, Signal

GAMMAS = (1.0, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32)
UNSPENT = 0.97
"""Where all stored paths cost less than this share of a budget, they do not measure it."""


class SweepCell(BaseModel):
    """One method, task, prefix length, budget and retention ratio: what the vote over the kept paths is worth.

    ``maj`` and ``avg`` (problems,) run from 0 to 1, in the order of the task's problems; ``n`` and ``k`` count paths,
    ``cost`` is the mean number of generator tokens per problem (FLOPs over those of one token). ``capped``: the stored
    paths did not suffice to spend the budget, so the cell is no measurement of it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str
    task: str
    prefix: int
    budget: float
    gamma: float
    n: int
    k: int
    cost: float
    capped: bool
    maj: list[float]
    avg: list[float]


class Ranking(BaseModel):
    """How one method orders the paths of every problem of a task at one length: AUROC; None where all end alike."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    task: str
    prefix: int
    auroc: list[float | None]


class Sweep(Document):
    """All cells and rankings, and what they rest on. ``lengths``: mean tokens of a complete path, by task."""

    KIND = "sweep"
    COMMAND = "prunebench sweep --store FOLDER"

    schema_version: Literal[1] = 1
    command: str
    model: str
    model_hash: str
    sampling: dict[str, Any]
    store: str
    stored_paths: int
    draws: int
    seed: int
    problems: dict[str, list[str]]
    lengths: dict[str, float]
    cells: list[SweepCell]
    rankings: tuple[Ranking, ...] = ()
    left_out: dict[str, str]

    @property
    def methods(self) -> list[str]:
        return list(dict.fromkeys(cell.method for cell in self.cells))

    @property
    def tasks(self) -> list[str]:
        return list(self.problems)

    def write(self, out: Path) -> None:
        """``sweep.json``, and ``sweep.csv`` with the means."""
        columns = ["method", "task", "prefix", "budget", "gamma", "n", "k", "cost", "capped", "maj_at_k", "avg_at_k"]
        rows = (
            [cell.method, cell.task, cell.prefix, cell.budget, cell.gamma, cell.n, cell.k, cell.cost, cell.capped,
             100 * float(np.mean(cell.maj)), 100 * float(np.mean(cell.avg))]
            for cell in self.cells
        )  # fmt: skip
        write_atomically(out / "sweep.csv", csv_text(columns, rows).encode())
        self.save(out / "sweep.json")


@dataclass(frozen=True)
class Grid:
    """What is swept. Lengths and budgets in tokens."""

    prefixes: tuple[int, ...]
    budgets: tuple[float, ...]
    gammas: tuple[float, ...] = GAMMAS
    draws: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        for name, values in (("prefix", self.prefixes), ("budget", self.budgets), ("gamma", self.gammas)):
            if not values or min(values) <= 0 or len(set(values)) < len(values):
                raise UserError(f"{name} = {list(values)}: give different values above 0")
        if max(self.gammas) != 1:
            raise UserError(f"gamma = {list(self.gammas)}: the largest must be 1, which keeps all: the baseline")
        if self.draws < 1:
            raise UserError(f"draws = {self.draws}: at least one pool has to be drawn")


def sweep(
    engine: Engine | None,
    folder: Path,
    methods: Mapping[str, Pruner],
    grid: Grid,
    out: Path,
    *,
    arithmetic: Arithmetic | None,
    problems: int | None = None,
    asked: bool = True,
    missing: Mapping[str, str] = {},
    command: str = "",
    progress: Progress = SILENT,
) -> Sweep:
    """Score, draw, vote. Scores that lie in ``out`` are not computed again, so the same command goes on after a stop.

    Raises UserError for a prefix that is no shorter than every path, where no method is left, and for a method that was
    ``asked`` for and reads what the store lacks; another one is left out. ``missing``: what was left out before.
    """
    store = RolloutStore.open(folder)
    names, left_out = playable_of({name: type(pruner) for name, pruner in methods.items()})
    lacking = _lacking(engine, store, {name: methods[name] for name in names}, grid)
    if lacking and asked:
        raise UserError(f"{next(iter(lacking.values()))}; leave it out of --methods")
    left_out = {**missing, **left_out, **lacking}
    playable = {name: methods[name] for name in names if name not in lacking}
    if not playable:
        raise UserError("; ".join(left_out_lines(left_out)) or "no method is left to sweep")
    kept = KeptScores(out / "scores", store, engine, playable, arithmetic)
    most = most_compared(list(map(len, store.lengths().values())))
    if short := too_short(store, [task for task, _ in store.lengths()], most):
        progress.say(short)
    scored = _scored(store, kept, first_problems(store, problems, most), grid, progress)
    tasks = {task: first for (task, _), first in scored.items()}
    cells = _played(playable, scored, tasks, grid, most, progress)
    result = Sweep(
        command=command,
        model=str(store.manifest["model"]),
        model_hash=str(store.manifest["model_hash"]),
        sampling=dict(store.manifest["sampling"] or {}),
        store=store.digest(),
        stored_paths=most,
        draws=grid.draws,
        seed=grid.seed,
        problems={task: [paths.problem for paths in paths_of] for task, paths_of in tasks.items()},
        lengths={
            task: float(np.mean([paths.lengths.mean() for paths in paths_of])) for task, paths_of in tasks.items()
        },
        cells=cells,
        rankings=tuple(_ranking(name, *place, paths) for name in playable for place, paths in scored.items()),
        left_out=left_out,
    )
    result.write(out)
    return result


def _played(
    methods: Collection[str],
    scored: Mapping[tuple[str, int], Sequence[ScoredPaths]],
    tasks: Mapping[str, Sequence[ScoredPaths]],
    grid: Grid,
    most: int,
    progress: Progress,
) -> list[SweepCell]:
    """Draw the pools of every task, the same ones for every method, and let them vote."""
    tick = progress.stretch("drawing pools and voting", len(methods) * len(scored))
    orders = {task: orders_of(paths_of, grid.draws, grid.seed) for task, paths_of in tasks.items()}
    cells = []
    for name in methods:
        for (task, prefix), paths_of in scored.items():
            pools = Pools(paths_of, name, orders[task], token_cost(paths_of))
            cells += _cells(pools, task, prefix, grid, most)
            tick(1)
    return cells


def _ranking(method: str, task: str, prefix: int, paths_of: Sequence[ScoredPaths]) -> Ranking:
    aurocs = [auroc(paths.scores[method], paths.correct) for paths in paths_of]
    told = [None if math.isnan(value) else value for value in aurocs]
    return Ranking(method=method, task=task, prefix=prefix, auroc=told)


def _lacking(engine: Engine | None, store: RolloutStore, methods: Mapping[str, Pruner], grid: Grid) -> dict[str, str]:
    """By method why it cannot score the first stored problem."""
    stored = next(iter(store.read()))
    task = task_of(store, stored.task)
    record = record_of(engine, stored, min(grid.prefixes), None, reads_of(methods), task=task)
    reasons = {name: missing_signal(name, pruner, [record]) for name, pruner in methods.items()}
    return {name: reason for name, reason in reasons.items() if reason is not None}


def _scored(
    store: RolloutStore, kept: KeptScores, chosen: Sequence[tuple[str, str]], grid: Grid, progress: Progress
) -> dict[tuple[str, int], list[ScoredPaths]]:
    """The problems of a task by (task, prefix), task by task."""
    lengths = store.lengths()
    longest = max(length for key in chosen for length in lengths[key])
    if max(grid.prefixes) >= longest:
        raise UserError(
            f"prefix = {max(grid.prefixes)}: the longest stored path has {longest} tokens; choose less "
            f"(--set prefix={max(1, longest // 8)},{max(1, longest // 4)} --set budget=16k)"
        )
    tick = progress.stretch("scoring stored paths", len(chosen) * len(grid.prefixes))
    scored: dict[tuple[str, int], list[ScoredPaths]] = {
        (task, prefix): [] for task in dict.fromkeys(task for task, _ in chosen) for prefix in grid.prefixes
    }
    for task, problem in chosen:
        for prefix in grid.prefixes:
            scored[task, prefix].append(kept.scored(task, problem, prefix))
            tick(1)
    return scored


def sweep_by_name(
    engine: Engine | None,
    store: Path,
    names: Sequence[str],
    learned: Learned,
    trained_for: int,
    grid: Grid,
    out: Path,
    *,
    judges: Judges,
    problems: int | None = None,
    asked: bool = True,
    command: str = "",
    progress: Progress = SILENT,
) -> Sweep:
    """The sweep of named methods over stored rollouts. Raises UserError where one was trained on these problems.

    What was not ``asked`` for by name and cannot be had is left out, with the reason.
    """
    digest = engine.digest if engine else IMPORTED
    methods, missing = dict[str, Loaded](), dict[str, str]()
    for name in names:
        try:
            if engine is None:
                refuse_learned(name)
            methods[name] = load_method(name, learned, digest, trained_for, judges)
        except UserError as error:
            if asked:
                raise
            missing[name] = str(error)
    for name, method in methods.items():
        if method.card is not None and method.card.tuned_at not in grid.prefixes:
            progress.say(f"{name}: tuned at {method.card.tuned_at} tokens, checked at {list(grid.prefixes)}")
    refuse_leak(
        {name: method.card for name, method in methods.items()},
        [problem for _, problem in first_problems(RolloutStore.open(store), problems)],
    )
    return sweep(
        engine,
        store,
        {name: method.pruner for name, method in methods.items()},
        grid,
        out,
        arithmetic=engine.arithmetic if engine else None,
        problems=problems,
        asked=asked,
        missing=missing,
        command=command,
        progress=progress,
    )


def budgets_of(store: Path) -> tuple[float, ...]:
    """What keeping all of a sixteenth to a half of the stored paths costs, in generator tokens per problem."""
    lengths = list(RolloutStore.open(store).lengths().values())
    most, mean = (
        most_compared(list(map(len, lengths))),
        float(np.mean([length for paths in lengths for length in paths])),
    )
    return tuple(mean * most / part for part in (16, 8, 4, 2) if most >= part)


def playable_of(methods: Mapping[str, type[Pruner]]) -> tuple[list[str], dict[str, str]]:
    """The methods whose scores can be used in any pool, and why the others cannot."""
    playable, left_out = [], {}
    for name, entry in methods.items():
        if name == "none":
            left_out[name] = "keeps all paths: it is the retention ratio 1 of every other method"
        elif not entry.pointwise and name != "random":
            left_out[name] = "a score depends on the other paths of the pool, so it cannot be used in other pools"
        elif entry.requires & {Signal.OUTCOME, Signal.POTENTIAL}:
            left_out[name] = "reads what no run would have"
        else:
            playable.append(name)
    return playable, left_out


def _cells(pools: Pools, task: str, prefix: int, grid: Grid, most: int) -> list[SweepCell]:
    """All budgets and retention ratios of one method, task and prefix length."""
    cells = []
    for gamma in grid.gammas:
        kept = Ratio(gamma).kept

        @cache
        def cost(n: int, kept: Callable[[int], int] = kept) -> float:
            return float(pools.costs(n, kept(n)).mean())

        for budget in grid.budgets:
            n = largest_affordable(cost, budget, most) or 1
            maj, avg = pools.accuracies(n, kept(n))
            cells.append(
                SweepCell(
                    method=pools.method, task=task, prefix=prefix, budget=budget, gamma=gamma, n=n, k=kept(n),
                    cost=cost(n), capped=n == most and cost(n) < UNSPENT * budget,
                    maj=np.round(maj, 6).tolist(), avg=np.round(avg, 6).tolist(),
                )
            )  # fmt: skip
    return cells
