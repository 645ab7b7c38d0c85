"""Keep everything: what pruning is measured against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from prunebench.methods.base import Pruner, Scores, Signal, Source
from prunebench.methods.pool import Pool
from prunebench.methods.registry import pruner


@pruner
@dataclass
class KeepAll(Pruner):
    """All N paths go on: it runs under the policy ``keep all``, whatever the others run under."""

    name: ClassVar[str] = "none"
    source: ClassVar[Source] = Source.CONTROL
    requires: ClassVar[frozenset[Signal]] = frozenset()
    paper: ClassVar[str] = "control"

    def score(self, pool: Pool) -> Scores:
        return np.zeros(len(pool))
