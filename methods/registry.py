"""One registry for every pruner: built-in files are found by themselves, plugins come through entry points."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from prunebench.methods.base import Pruner

T = TypeVar("T")


class UnknownNameError(ValueError):
    """A name that no registry entry has; the message offers the nearest ones."""

    def __init__(self, kind: str, name: str, known: list[str]) -> None:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(repr(n) for n in near)}?" if near else f"known: {', '.join(known)}"
        super().__init__(f"unknown {kind} '{name}': {hint}")


class BrokenPluginError(ValueError):
    """An installed package registers a name, but its class cannot be loaded."""

    def __init__(self, kind: str, name: str, error: Exception) -> None:
        super().__init__(f"{kind} plugin '{name}' could not be loaded: {error}")


class Registry(Generic[T]):
    """Classes by name: by decorator, from the modules of the given packages, or from an entry-point group.

    Packages are imported when the registry is first read; an entry point is loaded only when it is asked for by name.
    """

    def __init__(self, kind: str, base: type[T], packages: tuple[str, ...] = (), group: str | None = None) -> None:
        self.kind, self._base, self._packages, self._group = kind, base, packages, group
        self._entries: dict[str, type[T]] = {}
        self._loaded = False

    def register(self, name: str) -> Callable[[type[T]], type[T]]:
        """Class decorator. Raises TypeError for a class of another base, ValueError for a name that is taken."""

        def add(entry: type[T]) -> type[T]:
            if not issubclass(entry, self._base):
                raise TypeError(f"{self.kind} '{name}': {entry.__name__} is not a {self._base.__name__}")
            taken = self._entries.get(name)
            if taken is not None and (taken.__module__, taken.__qualname__) != (entry.__module__, entry.__qualname__):
                raise ValueError(f"{self.kind} '{name}' is taken by {taken.__module__}.{taken.__qualname__}")
            self._entries[name] = entry
            return entry

        return add

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        for package in self._packages:
            module = importlib.import_module(package)
            for found in pkgutil.iter_modules(module.__path__, f"{package}."):
                importlib.import_module(found.name)
        self._entries = dict(sorted(self._entries.items(), key=lambda item: self._place(item[1])))

    def _place(self, entry: type[T]) -> tuple[int, str]:
        """Package, then module: what happened to be imported before does not change the order."""
        home = entry.__module__.rpartition(".")[0]
        return (self._packages.index(home) if home in self._packages else len(self._packages), entry.__module__)

    def _plugins(self) -> dict[str, object]:
        return {} if self._group is None else {point.name: point for point in entry_points(group=self._group)}

    def names(self) -> list[str]:
        """Built-in names in taxonomy order (the order of the packages), then plugins."""
        self._load()
        return [*self._entries, *(name for name in self._plugins() if name not in self._entries)]

    def get(self, name: str) -> type[T]:
        """The class of that name. Raises UnknownNameError; BrokenPluginError for a plugin that cannot be loaded."""
        self._load()
        if name in self._entries:
            return self._entries[name]
        for point in entry_points(group=self._group) if self._group else ():
            if point.name == name:
                try:
                    return self.register(name)(point.load())
                except Exception as error:  # a foreign package may raise anything
                    raise BrokenPluginError(self.kind, name, error) from error
        raise UnknownNameError(self.kind, name, self.names())

    def items(self) -> Iterator[tuple[str, type[T]]]:
        """Every entry; a plugin that cannot be imported is a warning, not a crash."""
        for name in self.names():
            try:
                yield name, self.get(name)
            except BrokenPluginError as error:
                warnings.warn(str(error), stacklevel=2)


PRUNERS: Registry[Pruner] = Registry(
    "method",
    Pruner,  # type: ignore[type-abstract]
    (
        "prunebench.methods.controls",
        "prunebench.methods.surface",
        "prunebench.methods.judges",
        "prunebench.methods.confidence",
        "prunebench.methods.learned",
        "prunebench.methods.ensembles",
    ),
    "prunebench.pruners",
)


def pruner(entry: type[Pruner]) -> type[Pruner]:
    """Class decorator: register a pruner under its own ``name``."""
    return PRUNERS.register(entry.name)(entry)
