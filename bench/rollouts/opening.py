"""What an opened store holds: its tasks, its problems in order, the model that sampled it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from prunebench.bench.engines.base import Engine
from prunebench.bench.errors import UserError
from prunebench.bench.rollouts.store import IMPORTED, RolloutStore
from prunebench.tasks import catalogue
from prunebench.tasks.errors import shown
from prunebench.tasks.imported import MATH, ImportedTask
from prunebench.tasks.task import Task


def is_imported(store: RolloutStore) -> bool:
    """Whether the rollouts were made elsewhere, by a model that is not at hand."""
    return bool(store.manifest["model_hash"] == IMPORTED)


def task_of(store: RolloutStore, name: str) -> Task:
    """The task of that name as this store's answers are read and graded."""
    if is_imported(store):
        kind = store.manifest.get("answer_type")  # until imports had one, only boxes were read
        return ImportedTask(name, str(store.manifest["grading"]), str(kind or MATH), strict=kind is None)
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


def most_compared(counts: Collection[int]) -> int:
    """The N with which the most paths take part, from the paths of every problem; of equal ones the smallest.

    A problem with fewer paths is left out then: one that is short does not lower N for all.
    """
    return max(sorted(set(counts)), key=lambda n: n * sum(count >= n for count in counts))


def stored_problems(
    store: RolloutStore, tasks: Sequence[str], limit: int | None, paths: int = 1
) -> list[tuple[str, str]]:
    """(task, problem id) of problems with so many ``paths``, task by task, in the order of the store.

    At most ``limit`` per task.
    """
    held = {key: tokens for key, tokens in store.lengths().items() if len(tokens) >= paths}
    return [key for task in tasks for key in [key for key in held if key[0] == task][:limit]]


def too_short(store: RolloutStore, tasks: Sequence[str], paths: int) -> str:
    """The sentence about problems that have fewer than so many ``paths``; empty where all have them."""
    short = {key: len(tokens) for key, tokens in store.lengths().items() if key[0] in tasks and len(tokens) < paths}
    named = [f"{task}/{problem} ({count})" for (task, problem), count in list(short.items())[:3]]
    more = f" and {len(short) - 3} more" if len(short) > 3 else ""
    return f"left out, with fewer than {paths} paths: {', '.join(named)}{more}" if short else ""


def first_problems(store: RolloutStore, limit: int | None = None, paths: int = 1) -> list[tuple[str, str]]:
    """(task, problem id) of the first ``limit`` problems of every task (None: of all) that have so many ``paths``."""
    return stored_problems(store, list(dict.fromkeys(task for task, _ in store.lengths())), limit, paths)


def require_model(store: RolloutStore, folder: Path, engine: Engine) -> None:
    """Raises UserError where the rollouts in ``folder`` were sampled from another model."""
    if engine.digest != store.manifest["model_hash"]:
        raise UserError(f"{folder}: sampled from model {store.manifest['model_hash']}, this is {engine.digest}")
