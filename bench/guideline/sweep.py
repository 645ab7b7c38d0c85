"""The sweep behind the guideline: retention ratio x prefix length x budget, by replay of many stored paths.

For every method, prefix length and problem all M stored paths are scored once. Then pools are drawn without
replacement, every retention ratio gets the largest N that the budget pays for, and the kept paths vote: maj@k|N, the
expected value over ties, mean over the draws. Only pruners whose scores do not depend on the other paths of the pool
can be replayed so (``Pruner.pointwise``).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from prunebench.bench.engines.arithmetic import Arithmetic
from prunebench.bench.engines.base import Engine
from prunebench.bench.errors import UserError
from prunebench.bench.evaluation.replay import check
from prunebench.bench.evaluation.subsampling import order
from prunebench.bench.evaluation.tables.equal_cost import largest_affordable
from prunebench.bench.files import Document, csv_text, write_atomically
from prunebench.bench.progress import SILENT, Progress
from prunebench.bench.rollouts.opening import first_problems, task_of
from prunebench.bench.rollouts.pools import record_of
from prunebench.bench.rollouts.records import ProblemRecord
from prunebench.bench.rollouts.store import IMPORTED, RolloutStore, StoredProblem
from prunebench.bench.training.cards import refuse_leak
from prunebench.bench.training.loading import Judges, load_method, reads_of
from prunebench.methods.base import Pruner, Signal
from prunebench.methods.meter import Cost

Array = NDArray[np.float64]
GAMMAS = (1.0, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32)


class Cell(BaseModel):
    """One method, task, prefix length, budget and retention ratio: what the vote over the kept paths is worth.

    ``maj`` and ``avg`` (problems,) run from 0 to 1, in the order of the task's problems; ``n`` and ``k`` count paths,
    ``cost`` is the mean number of generator tokens per problem. ``capped``: the stored paths did not suffice to spend
    the budget, so the cell is no measurement of it.
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


class Sweep(Document):
    """All cells, and what they rest on. ``lengths``: mean tokens of a complete path, by task."""

    KIND = "sweep"
    COMMAND = "prunebench sweep"

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
    cells: list[Cell]
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
            [c.method, c.task, c.prefix, c.budget, c.gamma, c.n, c.k, c.cost, c.capped,
             100 * float(np.mean(c.maj)), 100 * float(np.mean(c.avg))]
            for c in self.cells
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


@dataclass(frozen=True)
class Paths:
    """The stored paths of one problem as arrays over M: tokens, answer classes (-1 none), verdicts."""

    task: str
    problem: str
    lengths: NDArray[np.int64]
    answer_class: NDArray[np.int64]
    gold_class: int
    correct: Array

    @classmethod
    def of(cls, record: ProblemRecord) -> Paths:
        return cls(record.task, record.problem, record.lengths, record.answer_class, record.gold_class, record.correct)


Scores = dict[tuple[str, int, str, str], Array]
"""(M,) scores by method, prefix, task and problem."""


def sweep(
    engine: Engine | None,
    folder: Path,
    methods: Mapping[str, Pruner],
    grid: Grid,
    out: Path,
    *,
    arithmetic: Arithmetic | None,
    problems: int | None = None,
    command: str = "",
    progress: Progress = SILENT,
) -> Sweep:
    """Score, draw, vote. Scores that lie in ``out`` are not computed again, so the same command goes on after a stop.

    Raises UserError for a prefix that is no shorter than every path.
    """
    store = RolloutStore.open(folder)
    chosen = first_problems(store, problems)
    names, left_out = playable_of({name: type(pruner) for name, pruner in methods.items()})
    playable = {name: methods[name] for name in names}
    kept = _Kept(out / "scores", _digest(store, engine, playable))
    paths: dict[tuple[str, str], Paths] = {}
    scores: Scores = {}
    extra: dict[tuple[str, int], list[float]] = {}
    tick = progress.stretch("scoring stored paths", len(chosen) * len(grid.prefixes))
    stored = {(s.task, s.problem): s for s in store.read(hidden=False) if (s.task, s.problem) in set(chosen)}
    longest = max(path.length for s in stored.values() for path in s.paths)
    if max(grid.prefixes) >= longest:
        raise UserError(f"prefix = {max(grid.prefixes)}: the longest stored path has {longest} tokens; choose less")
    for key in chosen:
        for prefix in grid.prefixes:
            one = kept.scored(engine, store, stored[key], prefix, playable, arithmetic)
            paths[key] = one.paths
            for name in playable:
                scores[name, prefix, *key] = one.scores[name]
                extra.setdefault((name, prefix), []).append(one.extra[name])
            tick(1)
    by_task = {task: [paths[key] for key in chosen if key[0] == task] for task in dict.fromkeys(t for t, _ in chosen)}
    most = min(len(one.lengths) for one in paths.values())
    tick = progress.stretch("drawing pools and voting", len(playable) * len(by_task) * len(grid.prefixes))
    cells = []
    for name in playable:
        for task, members in by_task.items():
            orders = [_orders(one, grid, most) for one in members]
            for prefix in grid.prefixes:
                own = [scores[name, prefix, task, one.problem] for one in members]
                charge = float(np.mean(extra[name, prefix]))
                cells += _cells(name, task, prefix, members, own, orders, charge, grid, most)
                tick(1)
    found = Sweep(
        command=command,
        model=str(store.manifest["model"]),
        model_hash=str(store.manifest["model_hash"]),
        sampling=dict(store.manifest["sampling"] or {}),
        store=store.digest(),
        stored_paths=most,
        draws=grid.draws,
        seed=grid.seed,
        problems={task: [one.problem for one in members] for task, members in by_task.items()},
        lengths={task: float(np.mean([one.lengths.mean() for one in members])) for task, members in by_task.items()},
        cells=cells,
        left_out=left_out,
    )
    found.write(out)
    return found


def sweep_by_name(
    engine: Engine | None,
    store: Path,
    names: Sequence[str],
    learned: Path,
    trained_for: int,
    grid: Grid,
    out: Path,
    *,
    judges: Judges,
    problems: int | None = None,
    command: str = "",
    progress: Progress = SILENT,
) -> Sweep:
    """The sweep of named methods over stored rollouts. Raises UserError where one was trained on these problems."""
    digest = engine.digest if engine else IMPORTED
    methods = {name: load_method(name, learned, digest, trained_for, judges) for name in names}
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
        command=command,
        progress=progress,
    )


def budgets_of(store: Path) -> tuple[float, ...]:
    """What keeping all of a sixteenth to a half of the stored paths costs, in generator tokens per problem."""
    lengths = list(RolloutStore.open(store).lengths().values())
    most, mean = min(map(len, lengths)), float(np.mean([length for paths in lengths for length in paths]))
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


def _orders(one: Paths, grid: Grid, most: int) -> NDArray[np.int64]:
    """(draws, M): which stored path comes at which place of a draw."""
    count = len(one.lengths)
    return np.stack([order(one.task, one.problem, count, draw, grid.seed)[:most] for draw in range(grid.draws)])


def _cells(
    method: str,
    task: str,
    prefix: int,
    members: Sequence[Paths],
    scores: Sequence[Array],
    orders: Sequence[NDArray[np.int64]],
    charge: float,
    grid: Grid,
    most: int,
) -> list[Cell]:
    """All budgets and retention ratios of one method, task and prefix length."""
    found = []
    for budget in grid.budgets:
        for gamma in grid.gammas:

            def played(n: int, gamma: float = gamma) -> tuple[Array, int]:
                """(3, problems): maj, avg and cost; and k."""
                k = kept_of(n, gamma)
                rows = [vote(o, s, ids[:, :n], prefix, k, charge if k < n else 0.0)
                        for o, s, ids in zip(members, scores, orders, strict=True)]  # fmt: skip
                return np.array(rows).T, k

            n, values, k = affordable(played, budget, most)
            found.append(
                Cell(
                    method=method, task=task, prefix=prefix, budget=budget, gamma=gamma, n=n, k=k,
                    cost=float(values[2].mean()), capped=n == most and float(values[2].mean()) < 0.97 * budget,
                    maj=np.round(values[0], 6).tolist(), avg=np.round(values[1], 6).tolist(),
                )
            )  # fmt: skip
    return found


def affordable(played: Callable[[int], tuple[Array, int]], budget: float, most: int) -> tuple[int, Array, int]:
    """The largest n up to ``most`` whose mean cost (row 2) is at most ``budget`` (at least 1), with what it gave."""
    known: dict[int, tuple[Array, int]] = {}

    def cost(n: int) -> float:
        known[n] = played(n)
        return float(known[n][0][2].mean())

    n = largest_affordable(cost, budget, most) or 1
    values, k = known[n] if n in known else played(n)
    return n, values, k


def kept_of(n: int, gamma: float) -> int:
    """k = gamma N, rounded, at least one path."""
    return max(1, min(n, round(gamma * n)))


def vote(
    one: Paths, scores: Array, drawn: NDArray[np.int64], prefix: int, k: int, charge: float
) -> tuple[float, float, float]:
    """(maj@k|N, avg@k|N, cost in tokens) of pools ``drawn`` (draws, N), means over the draws; ties by place.

    ``charge`` is what the check costs per path. A vote without any answer is wrong.
    """
    draws, n = drawn.shape
    if k < n:
        ranking = np.argsort(-scores[drawn], axis=1, kind="stable")[:, :k]
        kept = np.take_along_axis(drawn, ranking, axis=1)
        rest = np.maximum(one.lengths - prefix, 0)
        cost = np.minimum(one.lengths, prefix)[drawn].sum(1) + rest[kept].sum(1) + charge * n
    else:
        kept = drawn
        cost = one.lengths[drawn].sum(1)
    answers = one.answer_class[kept]
    classes = max(int(one.answer_class.max(initial=-1)), one.gold_class) + 1
    if classes == 0:
        return 0.0, float(one.correct[kept].mean()), float(cost.mean())
    counts = np.zeros((draws, classes + 1))  # the last column takes those without an answer
    np.add.at(counts, (np.arange(draws)[:, None], np.where(answers < 0, classes, answers)), 1)
    counts = counts[:, :classes]
    leading = counts.max(axis=1, keepdims=True)
    tied = (counts == leading) & (leading > 0)
    right = tied[:, one.gold_class] if one.gold_class >= 0 else np.zeros(draws, bool)
    maj = np.divide(right, tied.sum(1), out=np.zeros(draws), where=tied.any(1))
    return float(maj.mean()), float(one.correct[kept].mean()), float(cost.mean())


# --- scores that are kept -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Scored:
    """One problem at one prefix length: its paths, scores (M,) by method, and the check's cost per path in tokens."""

    paths: Paths
    scores: dict[str, Array]
    extra: dict[str, float]


class _Kept:
    """Scores of finished problems on disk, one file per problem and prefix length."""

    def __init__(self, folder: Path, digest: str) -> None:
        self.folder = folder / digest

    def scored(
        self,
        engine: Engine | None,
        store: RolloutStore,
        stored: StoredProblem,
        prefix: int,
        methods: Mapping[str, Pruner],
        arithmetic: Arithmetic | None,
    ) -> _Scored:
        name = hashlib.sha256(f"{stored.task}\x1f{stored.problem}\x1f{prefix}".encode()).hexdigest()[:24]
        file = self.folder / f"{name}.json"
        if file.exists():
            return _read(file)
        reads = reads_of(methods)
        record = record_of(engine, stored, prefix, None, reads, task=task_of(store, stored.task))
        found = _Scored(Paths.of(record), {}, {})
        for method, pruner in methods.items():
            checked = check(pruner, record.pool)
            found.scores[method] = checked.scores
            found.extra[method] = _charge(method, checked.cost, record, arithmetic)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(file, json.dumps(_plain(found)).encode())
        return found


def _charge(method: str, cost: Cost, record: ProblemRecord, arithmetic: Arithmetic | None) -> float:
    """Generator tokens per path that the check costs.

    Raises UserError for a cost in FLOPs where no model says what a token costs (imported rollouts).
    """
    count = len(record.pool)
    if arithmetic is None and cost.flops is not None:
        raise UserError(
            f"method '{method}': its check costs FLOPs, and imported rollouts have no model to say how many "
            "tokens that is; leave it out of --methods"
        )
    if arithmetic is None:
        return cost.tokens / count
    context = len(record.pool.prompt_ids) + record.pool.position
    zero, one = np.zeros(1, np.int64), np.full(1, record.pool.position, np.int64)
    token = arithmetic.decoding(len(record.pool.prompt_ids), zero, one) / record.pool.position
    return arithmetic.beyond(cost, context) / token / count


def _plain(scored: _Scored) -> dict[str, Any]:
    paths = scored.paths
    return {
        "task": paths.task, "problem": paths.problem, "lengths": paths.lengths.tolist(),
        "answer_class": paths.answer_class.tolist(), "gold_class": paths.gold_class, "correct": paths.correct.tolist(),
        "scores": {name: values.tolist() for name, values in scored.scores.items()}, "extra": scored.extra,
    }  # fmt: skip


def _read(file: Path) -> _Scored:
    told = json.loads(file.read_text())
    paths = Paths(
        told["task"], told["problem"], np.array(told["lengths"], np.int64), np.array(told["answer_class"], np.int64),
        int(told["gold_class"]), np.array(told["correct"], np.float64),
    )  # fmt: skip
    return _Scored(paths, {name: np.array(values) for name, values in told["scores"].items()}, told["extra"])


def _digest(store: RolloutStore, engine: Engine | None, methods: Mapping[str, Pruner]) -> str:
    described = [store.digest(), engine.digest if engine else "", {n: _identity(p) for n, p in methods.items()}]
    return hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _identity(pruner: Pruner) -> Any:
    """What tells one pruner from another: its name, its hyper-parameters and what it learned (``..._``)."""
    learned = {name: value for name, value in vars(pruner).items() if name.endswith("_") and not name.startswith("_")}
    digest = hashlib.sha256()
    for part in _parts(learned):
        digest.update(part)
    return [pruner.name, pruner.hyperparameters(), digest.hexdigest()]


def _parts(value: Any) -> Iterator[bytes]:
    """The bytes of all arrays, numbers and words in a learned value, each after its name; models are left out."""
    if isinstance(value, Mapping):
        for name in sorted(value):
            yield str(name).encode() + b"\x1f"
            yield from _parts(value[name])
    elif is_dataclass(value):
        yield from _parts(vars(value))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _parts(one)
    elif isinstance(value, Pruner):
        yield json.dumps(_identity(value), sort_keys=True, default=str).encode()
    elif isinstance(value, str | int | float):
        yield repr(value).encode() + b"\x1f"
    elif hasattr(value, "__array__"):
        yield np.asarray(value).tobytes()
