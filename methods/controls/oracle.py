"""Keep the paths that will turn out right: the upper bound of any selection."""

from __future__ import annotations

from dataclasses import dataclass

from prunebench.methods.base import Pruner, Scores, Signal, Source
from prunebench.methods.pool import Pool
from prunebench.methods.registry import pruner


@pruner
@dataclass
class Oracle(Pruner):
    """Ranks by the verdict of the complete path (privileged)."""

    name = "oracle"
    source = Source.CONTROL
    requires = frozenset({Signal.OUTCOME})
    paper = "control"

    def score(self, pool: Pool) -> Scores:
        return pool.outcome.astype(float)
