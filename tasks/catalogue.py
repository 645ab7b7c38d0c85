"""All tasks: the synthetic families, the benchmarks in ``tasks/benchmarks``, and files of one's own by their path."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from prunebench.tasks.errors import UserError
from prunebench.tasks.task import Task, task_in
from prunebench.tasks.task_spec import BENCHMARKS, checked, checked_as, content_of

FILES = (".yaml", ".yml", ".py")
"""A task that is named by a path with one of these endings is of one's own."""
GYM = "reasoning-gym:"
"""A task of this name and the name of a data set of that package."""
Data = Mapping[str, Path]
"""Files or folders that stand for the data of tasks, by their names.

Under ``*`` lies what serves every task: a folder with a file or folder for each, by its name, or the only one."""


class UnknownTaskError(ValueError):
    """A task name that nothing answers to; the message offers the nearest ones."""


@cache
def _synthetic() -> dict[str, Task]:
    from prunebench.tasks.synthetic_task import SYNTHETIC_TASKS

    return dict(SYNTHETIC_TASKS)


def benchmarks() -> list[str]:
    """The names of the shipped benchmarks."""
    return sorted(file.stem for file in BENCHMARKS.glob("*.yaml"))


def names() -> list[str]:
    return [*_synthetic(), *benchmarks()]


def _groups() -> list[str]:
    return list(dict.fromkeys(name.partition("/")[0] for name in _synthetic()))


def is_file(name: str) -> bool:
    """Whether a task's name is the path of a file of one's own."""
    return name.endswith(FILES)


def get(name: str, data: Data | None = None) -> Task:
    """The task of that name or in that file, over other ``data`` than its own if there are any.

    Raises UnknownTaskError; UserError for a file that does not serve.
    """
    if is_file(name):
        return load_task(Path(name), data)
    if name in _synthetic():
        return _synthetic()[name]
    if name in benchmarks():
        return load_task(BENCHMARKS / f"{name}.yaml", data)
    if name.startswith(GYM):
        from prunebench.tasks.reasoning_gym import ReasoningGymSpec, ReasoningGymTask

        described = {"name": name, "reasoning_gym": name.removeprefix(GYM)}
        return ReasoningGymTask(checked_as(ReasoningGymSpec, "task", described)).require()
    if Path(name).is_dir():
        raise UnknownTaskError(
            f"'{name}' is a folder, and a task is a name or a file (.yaml, .py); rollouts that are there are compared "
            f"with: prunebench compare --store {name}, and swept with: prunebench sweep --store {name}"
        )
    near = difflib.get_close_matches(name, [*names(), *_groups()], n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"known: {', '.join(names())}, {GYM}NAME"
    raise UnknownTaskError(f"unknown task '{name}': {hint} (one of your own is named by its file, .yaml or .py)")


def load_task(path: Path, data: Data | None = None) -> Task:
    """The task in a YAML file, or the one Task class in a Python file. Raises UserError."""
    if path.suffix == ".py":
        return task_in(path)
    from prunebench.tasks.dataset_task import DatasetTask
    from prunebench.tasks.reasoning_gym import ReasoningGymSpec, ReasoningGymTask

    content = content_of(path)
    if path.parent != BENCHMARKS and content.get("name") in names():
        raise UserError(f"{path}: name = {content['name']!r} is that of a shipped task; choose another")
    if "reasoning_gym" in content:
        return ReasoningGymTask(checked_as(ReasoningGymSpec, str(path), content), path.parent).require()
    spec = checked(str(path), content)
    without = get(spec.without, data) if spec.without else None
    return DatasetTask(spec, path.parent, _data_of(spec.name, data), without)


def as_of_today(described: Mapping[str, Any]) -> dict[str, Any]:
    """The description of a task that a store keeps, with the keys that tasks did not have then.

    Until they could say so, all tasks were strict.
    """
    spec = described.get("spec")
    if not isinstance(spec, dict):
        return dict(described)
    whole = checked("the task in the store", {"strict": "last_number" not in spec, **spec})
    return {**described, "spec": whole.model_dump(mode="json")}


def from_description(described: Mapping[str, Any]) -> Task:
    """The task that a store keeps (see :meth:`Task.described`). Raises UserError where its file is gone."""
    from prunebench.tasks.dataset_task import DatasetTask
    from prunebench.tasks.reasoning_gym import ReasoningGymSpec, ReasoningGymTask

    match as_of_today(described):
        case {"python": str() as file}:
            return load_task(Path(file))
        case {"spec": dict() as spec, "folder": str() as folder}:
            return DatasetTask(checked("the task in the store", spec), Path(folder))
        case {"reasoning_gym": dict() as spec, "folder": str() as folder}:
            return ReasoningGymTask(checked_as(ReasoningGymSpec, "the task in the store", spec), Path(folder))
    raise UserError("the description of the task in the store is damaged; use another store")


def _data_of(name: str, data: Data | None) -> Path | None:
    """The file or folder that replaces a task's data."""
    if not data:
        return None
    if name in data:
        if not data[name].exists():
            raise UserError(f"--data {name}={data[name]}: no such file or folder")
        return data[name]
    if "*" not in data:
        return None
    place = data["*"]
    if not place.exists():
        raise UserError(f"--data {place}: no such file or folder")
    inside = sorted(place.iterdir()) if place.is_dir() else []
    return next((path for path in inside if name in (path.name, path.stem)), place)


def expand(wanted: Sequence[str], data: Data | None = None) -> list[Task]:
    """Tasks by name or file, groups unfolded, duplicates dropped."""
    tasks: dict[str, Task] = {}
    for name in wanted:
        members = [task for task in _synthetic() if task.startswith(f"{name}/")] if name in _groups() else [name]
        for member in members:
            task = get(member, data)
            tasks.setdefault(task.name, task)
    for name in data or {}:
        if name in tasks and not hasattr(tasks[name], "data"):
            raise UserError(f"--data {name}=...: its problems are made here, no data can stand for them; leave it out")
    unused = [name for name in data or {} if name != "*" and name not in tasks and name not in _excluded(tasks)]
    if unused:
        raise UserError(f"--data {unused[0]}=...: no task of this run is called so; they are {', '.join(tasks)}")
    return list(tasks.values())


def _excluded(tasks: Mapping[str, Task]) -> set[str]:
    return {other.name for task in tasks.values() if (other := getattr(task, "without", None)) is not None}
