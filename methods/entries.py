"""Entries by name: built-in files are found by themselves, plugins come through a decorator or an entry point."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import pkgutil
import sys
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from typing import Any, ClassVar, Generic, TypeVar

T = TypeVar("T")


def load_module(module: str, file: str) -> None:
    """Import a module by its name; where that is not to be found (a plugin in another process), from its file."""
    try:
        importlib.import_module(module)
    except ModuleNotFoundError:
        spec = importlib.util.spec_from_file_location(module, file)
        if spec is None or spec.loader is None:
            raise
        sys.modules[module] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[module])


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
    """Classes (or objects) by name: by decorator, from the given modules and packages, or from an entry-point group.

    ``base`` is what every entry is a subclass or an instance of. Packages are imported when the registry is first read;
    an entry point is loaded only when it is asked for by name. ``all_registries`` are those that a plugin can add to.
    """

    all_registries: ClassVar[list[Registry[Any]]] = []

    def __init__(self, kind: str, base: type[Any], packages: tuple[str, ...] = (), group: str | None = None) -> None:
        self.kind, self._base, self._packages, self._group = kind, base, packages, group
        self._entries: dict[str, T] = {}
        self._homes: dict[str, tuple[str, str]] = {}
        self._points: dict[str, Any] | None = None
        self._loaded = False
        self.all_registries.append(self)

    def register(self, name: str, made_by: Any = None) -> Callable[[T], T]:
        """Decorator. Raises TypeError for an entry of another base, ValueError for a name that is taken.

        ``made_by`` is the function that an object was made from: it tells where the entry comes from.
        """

        def add(entry: T) -> T:
            source: Any = made_by or entry
            called = getattr(source, "__qualname__", repr(source))
            right = issubclass(entry, self._base) if isinstance(entry, type) else isinstance(entry, self._base)
            if not right:
                raise TypeError(f"{self.kind} '{name}': {called} is not a {self._base.__name__}")
            home = (source.__module__, called)
            if not home[0].startswith(self._packages):
                self._load()  # what is built in registers first, so that nobody takes a name of it
            if self._homes.get(name, home) != home:
                raise ValueError(f"{self.kind} '{name}' is taken by {'.'.join(self._homes[name])}")
            self._entries[name], self._homes[name] = entry, home
            return entry

        return add

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        for package in self._packages:
            module = importlib.import_module(package)
            for submodule in pkgutil.iter_modules(getattr(module, "__path__", ()), f"{package}."):
                importlib.import_module(submodule.name)
        self._entries = dict(sorted(self._entries.items(), key=lambda item: self._place(item[0])))

    def _place(self, name: str) -> tuple[int, str]:
        """Package, then module: what happened to be imported before does not change the order."""
        module = self._homes[name][0]
        for number, package in enumerate(self._packages):
            if package in (module, module.rpartition(".")[0]):
                return number, module
        return len(self._packages), module

    def _plugins(self) -> dict[str, Any]:
        """What installed packages offer, looked up once: reading their metadata takes milliseconds."""
        if self._points is None:
            points = entry_points(group=self._group) if self._group else ()
            self._points = {point.name: point for point in points}
        return self._points

    def names(self) -> list[str]:
        """Built-in names in taxonomy order (the order of the packages), then plugins."""
        self._load()
        return [*self._entries, *(name for name in self._plugins() if name not in self._entries)]

    def get(self, name: str) -> T:
        """The entry of that name. Raises UnknownNameError; BrokenPluginError for a plugin that cannot be loaded."""
        self._load()
        if name in self._entries:
            return self._entries[name]
        point = self._plugins().get(name)
        if point is not None:
            try:
                entry = point.load()
                return self._entries[name] if name in self._entries else self.register(name)(entry)
            except Exception as error:  # a foreign package may raise anything
                raise BrokenPluginError(self.kind, name, error) from error
        raise UnknownNameError(self.kind, name, self.names())

    def elsewhere(self, name: str, module: str, file: str) -> T:
        """The entry of that name in another process: where nobody has added it, the module that does is loaded."""
        if name not in self.names():
            load_module(module, file)
        return self.get(name)

    def made_in(self, module: str) -> list[str]:
        """The names of what a module registered."""
        return [name for name, (home, _) in self._homes.items() if home == module]

    def items(self) -> Iterator[tuple[str, T]]:
        """Every entry; a plugin that cannot be imported is a warning, not a crash."""
        for name in self.names():
            try:
                yield name, self.get(name)
            except BrokenPluginError as error:
                warnings.warn(str(error), stacklevel=2)
