"""Entropy: how undecided the model was, token by token."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prunebench.methods.base import Pruner, Scores, Signal, Source
from prunebench.methods.pool import Pool
from prunebench.methods.registry import pruner


@pruner
@dataclass
class Entropy(Pruner):
    """Minus the mean entropy of the next-token distributions over the prefix (Think Just Enough, arXiv 2510.08146).

    The source uses the entropy itself, lower = better.
    """

    name = "entropy"
    source = Source.INTERNAL
    requires = frozenset({Signal.ENTROPY})
    paper = "arXiv 2510.08146"
    pointwise = True

    def score(self, pool: Pool) -> Scores:
        return np.array([-float(np.mean(entropy, dtype=np.float64)) for entropy in pool.entropy])
