"""All tasks by name. ``synthetic`` stands for the four synthetic families, ``synthetic-long`` for their long form."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from tasks.task import Task


class UnknownTaskError(ValueError):
    """A task name that nothing answers to; the message offers the nearest ones."""


def _tasks() -> dict[str, Task]:
    from tasks.synthetic_task import SYNTHETIC_TASKS

    return dict(SYNTHETIC_TASKS)


def _groups() -> list[str]:
    return list(dict.fromkeys(name.partition("/")[0] for name in names()))


def names() -> list[str]:
    return list(_tasks())


def get(name: str) -> Task:
    """The task of that name. Raises UnknownTaskError."""
    tasks = _tasks()
    if name not in tasks:
        near = difflib.get_close_matches(name, [*tasks, *_groups()], n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"known: {', '.join(tasks)}"
        raise UnknownTaskError(f"unknown task '{name}': {hint}")
    return tasks[name]


def expand(wanted: Sequence[str]) -> list[Task]:
    """Tasks by name, groups unfolded, duplicates dropped."""
    found: dict[str, Task] = {}
    for name in wanted:
        members = [task for task in names() if task.startswith(f"{name}/")] if name in _groups() else [name]
        found.update({member: get(member) for member in members})
    return list(found.values())
