"""Keep the prefixes whose continuations succeed most often: the best that any prefix-only method can do."""

from __future__ import annotations

from dataclasses import dataclass

from prunebench.methods.base import Pruner, Scores, Signal, Source
from prunebench.methods.pool import Pool
from prunebench.methods.registry import pruner


@pruner
@dataclass
class Potential(Pruner):
    """Ranks by the Monte Carlo success rate of the prefix (privileged)."""

    name = "potential"
    source = Source.CONTROL
    requires = frozenset({Signal.POTENTIAL})
    paper = "control"

    def score(self, pool: Pool) -> Scores:
        return pool.potential.astype(float)
