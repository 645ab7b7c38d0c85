"""Keep what ends early or is short so far: a baseline that reads nothing but the size of the prefix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prunebench.methods.base import Pruner, Scores, Signal, Source
from prunebench.methods.pool import Pool
from prunebench.methods.registry import pruner


@pruner
@dataclass
class Length(Pruner):
    """Finished prefixes first (the earlier the better), then the shorter prefix text. Never the final length."""

    name = "length"
    source = Source.CONTROL
    requires = frozenset({Signal.TEXT})
    paper = "control"
    pointwise = True

    def score(self, pool: Pool) -> Scores:
        characters = np.array([len(text) for text in pool.text], float)
        return np.where(pool.finished, 1e6 - pool.lengths, -characters)
