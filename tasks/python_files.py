"""Python files of one's own, as modules."""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType


def file_of(module: str) -> Path | None:
    """The file of a module that was loaded by its path; None for one that another process finds by its name."""
    if PathFinder.find_spec(module.partition(".")[0]) is not None:
        return None
    file = sys.modules[module].__file__
    return None if file is None else Path(file)


def module_of(file: Path) -> ModuleType:
    """The module in a file, run once per process. Whatever it raises is raised."""
    name = f"prunebench_own_{file.stem}_{abs(hash(str(file.resolve())))}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, file)
        if spec is None or spec.loader is None:
            raise ImportError(f"{file} is no Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look their module up
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]
