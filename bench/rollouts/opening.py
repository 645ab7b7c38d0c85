"""Comparisons of rollouts that are there already: which problems a store holds, and what can be asked of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from prunebench.bench.config import RunConfig, configured
from prunebench.bench.engines.base import Engine
from prunebench.bench.errors import UserError
from prunebench.bench.rollouts.store import IMPORTED, RolloutStore
from prunebench.tasks import catalogue
from prunebench.tasks.errors import shown
from prunebench.tasks.imported import ImportedTask
from prunebench.tasks.task import Task


def is_imported(store: RolloutStore) -> bool:
    """Whether the rollouts were made elsewhere, by a model that is not at hand."""
    return bool(store.manifest["model_hash"] == IMPORTED)


def task_of(store: RolloutStore, name: str) -> Task:
    """The task of that name as this store's answers are read and graded."""
    if is_imported(store):
        return ImportedTask(name, str(store.manifest["grading"]))
    described = store.own_task(name)
    if described is None and catalogue.is_file(name):
        raise UserError(f"{store.shards.folder}: its task {shown(name)} is the name of a file; a store runs no file")
    if described is None:
        return catalogue.get(name)
    place, folder = Path(str(described.get("python") or described.get("folder"))), store.shards.folder.resolve()
    if not place.is_absolute() or place.resolve().is_relative_to(folder):
        raise UserError(
            f"{store.shards.folder}: its task '{name}' lies in {shown(str(place))}; a store runs no code of its own: "
            "put the task elsewhere and sample again"
        )
    return catalogue.from_description(described)


def stored_problems(store: RolloutStore, tasks: Sequence[str], limit: int | None) -> list[tuple[str, str]]:
    """(task, problem id), task by task, in the order of the store; at most ``limit`` per task."""
    held = store.lengths()
    return [key for task in tasks for key in [key for key in held if key[0] == task][:limit]]


def first_problems(store: RolloutStore, limit: int | None = None) -> list[tuple[str, str]]:
    """(task, problem id) of the first ``limit`` problems of every task (None: of all)."""
    held = store.lengths()
    return stored_problems(store, list(dict.fromkeys(task for task, _ in held)), limit or len(held))


def require_model(store: RolloutStore, folder: Path, engine: Engine) -> None:
    """Raises UserError where the rollouts in ``folder`` were sampled from another model."""
    if engine.digest != store.manifest["model_hash"]:
        raise UserError(f"{folder}: sampled from model {store.manifest['model_hash']}, this is {engine.digest}")


def config_of(folder: Path, **options: Any) -> RunConfig:
    """The configuration of a comparison over the rollouts in ``folder``; ``options`` are those of the command line.

    Not given: ``n`` is the smallest number of paths that a problem has, ``k`` an eighth of it, ``prefix_tokens`` an
    eighth of the mean length, the problems all there are. Raises UserError for a store that cannot serve: no problem,
    an unknown task, too few paths, a checkpoint behind the end of every path.
    """
    store = RolloutStore.open(folder)
    lengths: dict[str, list[list[int]]] = {}
    for (task, _), paths_of in store.lengths().items():
        lengths.setdefault(task, []).append(paths_of)
    if not lengths:
        raise UserError(f"{folder}: holds no problem yet; run the command that makes this store again")
    given = {name: value for name, value in options.items() if value is not None}
    for name in given.get("tasks", ()):
        if name not in lengths:
            raise UserError(f"{folder}: holds no task '{name}'; it has {', '.join(lengths)}")
    tasks = list(given.pop("tasks", lengths))
    by_problem = [tokens for task in tasks for tokens in lengths[task]]
    fewest = min(map(len, by_problem))
    n = given.pop("n", fewest)
    if n > fewest:
        raise UserError(f"{folder}: n = {n}, but a problem has only {fewest} paths; choose n <= {fewest}")
    longest = max(max(tokens) for tokens in by_problem)
    prefix = given.pop(
        "prefix_tokens", max(1, int(np.mean([length for tokens in by_problem for length in tokens]) / 8))
    )
    if prefix >= longest:
        raise UserError(
            f"{folder}: prefix_tokens = {prefix}, but the longest path has {longest} tokens; choose a smaller --prefix"
        )
    sampling = store.manifest.get("sampling") or {"temperature": 1.0}
    settings = {
        "tasks": tasks,
        "model": str(store.manifest["model"]),
        "model_options": store.manifest.get("model_options", {}),
        "n": n,
        "k": max(1, n // 8),
        "prefix_tokens": prefix,
        "problems": max(map(len, lengths.values())),
        **sampling,
        "max_new_tokens": longest + 1,
        **given,
    }
    return configured(str(folder), settings, given)
