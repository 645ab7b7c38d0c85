"""Answer types by name: the files of this folder, files that ``--plugin`` loads, and installed packages.

Like the registry of methods, which ``tasks`` may not import.
"""

from __future__ import annotations

import importlib
import pkgutil
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TypeVar

from prunebench.tasks.answer_types.base import AnswerType
from prunebench.tasks.errors import UserError
from prunebench.tasks.python_files import module_of

T = TypeVar("T")
PACKAGE = __name__.rpartition(".")[0]
GROUP = "prunebench.answer_types"
"""The group of entry points in which an installed package names its types; each is loaded when it is asked for."""
TYPES: dict[str, type[AnswerType]] = {}


def answer_type(entry: type[AnswerType]) -> type[AnswerType]:
    """Class decorator: register an answer type under its ``name``. Raises ValueError for a name that is taken."""
    if not entry.__module__.startswith(PACKAGE):
        _load_shipped()  # these register first, so that nobody takes a name of theirs
    taken = TYPES.get(entry.name)
    if taken is not None and (taken.__module__, taken.__qualname__) != (entry.__module__, entry.__qualname__):
        raise ValueError(f"answer type '{entry.name}' is taken by {taken.__module__}.{taken.__qualname__}")
    TYPES[entry.name] = entry
    return entry


@cache
def _load_shipped() -> None:
    for module in pkgutil.iter_modules([str(Path(__file__).parent)], f"{PACKAGE}."):
        importlib.import_module(module.name)


def names() -> list[str]:
    """Every type that can be named, by its place."""
    _load_shipped()
    loaded = sorted(TYPES, key=lambda name: TYPES[name].place)
    return [*loaded, *(point.name for point in entry_points(group=GROUP) if point.name not in TYPES)]


def made_in(module: str) -> list[str]:
    """The names of what a module registered."""
    return [name for name, entry in TYPES.items() if entry.__module__ == module]


def _loaded(name: str) -> type[AnswerType] | None:
    """The class of that name, None where there is none. Raises UserError for a package that cannot be loaded."""
    _load_shipped()
    for point in () if name in TYPES else entry_points(group=GROUP, name=name):
        try:
            return answer_type(point.load())
        except Exception as error:  # a foreign package may raise anything
            raise UserError(f"answer type plugin '{name}' could not be loaded: {error}") from error
    return TYPES.get(name)


def answer_type_of(kind: str, folder: Path | None = None) -> AnswerType:
    """The answer type of that name; ``module:function`` is looked for in ``folder`` first. Raises UserError."""
    entry = _loaded(kind)
    if entry is not None:
        return entry()
    module, _, function = kind.partition(":")
    if not (module and function):
        raise UserError(f"answer type '{kind}' is not known: write {', '.join(names())}, or module:function")
    from prunebench.tasks.answer_types.function import function_answers

    return function_answers(kind, folder)


def answer_types() -> Iterator[AnswerType]:
    """Every type; one of a package that cannot be loaded is a warning."""
    for name in names():
        try:
            yield answer_type_of(name)
        except UserError as error:
            warnings.warn(str(error), stacklevel=2)


def with_answer_type(kind: str, file: Path | None, make: Callable[..., T], *arguments: object) -> T:
    """What ``make`` gives, in a process that may not have loaded the ``file`` of one's own answer type yet."""
    if file is not None and kind not in names():
        module_of(file)
    return make(*arguments)
