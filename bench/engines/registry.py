"""Engines by name: a file in :mod:`bench.engines.kinds`, a file given as ``--plugin``, an entry point."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prunebench.bench.errors import UserError
from prunebench.methods.entries import Registry

if TYPE_CHECKING:
    from prunebench.bench.engines.base import Engine
    from prunebench.bench.engines.options import ModelOptions


@dataclass(frozen=True, kw_only=True)
class EngineKind(ABC):
    """What samples, as ``--engine`` says it: ``name[:value][,field=value]``.

    A subclass has a ``name``, its own fields with defaults (numbers and texts), and loads; ``value`` names the field
    that stands behind the colon, if there is one. ``reads``: its engines read prefixes with the model
    (:attr:`Engine.reads`). ``workers``: so many engines, one per Ray actor with ``gpus_per_worker``, on the cluster at
    ``address`` (None: on this machine).
    """

    name = ""
    value = ""
    reads = True

    workers: int | None = None
    address: str | None = None
    gpus_per_worker: float | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise UserError(f"workers={self.workers}: at least one is needed")
        for field in ("address", "gpus_per_worker"):
            if self.workers is None and getattr(self, field) is not None:
                raise UserError(f"{field} belongs to workers: say how many engines are wanted, as in workers=4")

    @abstractmethod
    def load(self, model: str, device: str, options: ModelOptions) -> Engine:
        """The model, ready to sample. Its ``backend`` begins with ``name``. Raises UserError where it cannot be had."""

    def __reduce__(self) -> tuple[Callable[..., EngineKind], tuple[str, str, str, dict[str, Any]]]:
        """A kind from a plugin file is had from that file in another process."""
        kind = type(self)
        return _kind_elsewhere, (self.name, kind.__module__, inspect.getfile(kind), vars(self))

    def for_a_judge(self) -> EngineKind:
        """The same for a judge's model, which has to leave the generator its room."""
        return self


ENGINES: Registry[type[EngineKind]] = Registry(
    "engine",
    EngineKind,
    ("prunebench.bench.engines.kinds",),
    "prunebench.engines",
)


def _kind_elsewhere(name: str, module: str, file: str, fields: dict[str, Any]) -> EngineKind:
    return ENGINES.elsewhere(name, module, file)(**fields)


def engine(entry: type[EngineKind]) -> type[EngineKind]:
    """Class decorator: register a kind of engine under its own ``name``."""
    return ENGINES.register(entry.name)(entry)
