"""Keep the paths that will turn out right: the upper bound of any selection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from prunebench.methods.base import Pruner, Scores, Signal, Source
from prunebench.methods.pool import Pool
from prunebench.methods.registry import pruner


@pruner
@dataclass
class Oracle(Pruner):
    """Ranks by the verdict of the complete path (privileged)."""

    name: ClassVar[str] = "oracle"
    source: ClassVar[Source] = Source.CONTROL
    requires: ClassVar[frozenset[Signal]] = frozenset({Signal.OUTCOME})
    paper: ClassVar[str] = "control"

    def score(self, pool: Pool) -> Scores:
        return pool.outcome.astype(float)
