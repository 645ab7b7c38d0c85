"""Keep the prefixes whose continuations succeed most often: the best that any prefix-only method can do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from prunebench.methods.base import Pruner, Scores, Signal, Source
from prunebench.methods.pool import Pool
from prunebench.methods.registry import pruner


@pruner
@dataclass
class Potential(Pruner):
    """Ranks by the Monte Carlo success rate of the prefix (privileged)."""

    name: ClassVar[str] = "potential"
    source: ClassVar[Source] = Source.CONTROL
    requires: ClassVar[frozenset[Signal]] = frozenset({Signal.POTENTIAL})
    paper: ClassVar[str] = "control"

    def score(self, pool: Pool) -> Scores:
        return pool.potential.astype(float)
