"""Keep everything: what pruning is measured against."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prunebench.methods.base import Pruner, Scores, Source
from prunebench.methods.pool import Pool
from prunebench.methods.registry import pruner


@pruner
@dataclass
class NoPruning(Pruner):
    """All N paths go on: it runs under the policy ``keep all``, whatever the others run under."""

    name = "none"
    source = Source.CONTROL
    requires = frozenset()
    paper = "control"

    def score(self, pool: Pool) -> Scores:
        return np.zeros(len(pool))
