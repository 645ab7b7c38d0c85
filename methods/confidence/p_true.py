"""P(True): the model's own opinion of what it has written so far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from prunebench.methods.base import Pruner, Scores, Signal, Source
from prunebench.methods.pool import Pool
from prunebench.methods.registry import pruner


@pruner
@dataclass
class PTrue(Pruner):
    """p(yes) / (p(yes) + p(no)) for the next token after the question whether the prefix is right so far.

    arXiv 2207.05221, where the question is about a complete answer; higher = keep, as in the source. One forward pass
    over the question behind the cache of the prefix; nothing is generated.
    """

    name: ClassVar[str] = "p-true"
    source: ClassVar[Source] = Source.INTERNAL
    requires: ClassVar[frozenset[Signal]] = frozenset({Signal.PROBE})
    paper: ClassVar[str] = "arXiv 2207.05221"
    pointwise: ClassVar[bool] = True
    probability: ClassVar[bool] = True
    extra_cost: ClassVar[str] = "reads a question behind every path"

    def score(self, pool: Pool) -> Scores:
        yes, no = pool.opinion().T
        return np.asarray(np.exp(yes - np.logaddexp(yes, no)), np.float64)
