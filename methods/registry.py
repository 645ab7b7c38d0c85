"""The registry of every pruner, and the decorator that adds one."""

from __future__ import annotations

from prunebench.methods.base import Pruner
from prunebench.methods.entries import Registry

PRUNERS: Registry[type[Pruner]] = Registry(
    "method",
    Pruner,
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
