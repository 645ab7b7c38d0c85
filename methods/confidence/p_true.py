"""P(True): the model's own opinion of what it has written so far."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prunebench.methods.base import Pruner, Scores, Signal, Source
from prunebench.methods.pool import Pool
from prunebench.methods.registry import pruner


@pruner
@dataclass
class PTrue(Pruner):
    """p(yes) / (p(yes) + p(no)) for the next token after the question whether the prefix is right so far.

    arXiv 2207.05221, where the question is about a complete answer; higher = keep, as in the source. It is about the
    steps that are complete (:meth:`prunebench.methods.pool.Pool.opinion`). One forward pass over the question behind
    the cache of the prefix; nothing is generated.
    """

    name = "p-true"
    source = Source.INTERNAL
    requires = frozenset({Signal.PROBE})
    paper = "arXiv 2207.05221"
    pointwise = True
    probability = True
    extra_cost = "reads a question behind every path"

    def score(self, pool: Pool) -> Scores:
        yes, no = pool.opinion().T
        return np.asarray(np.exp(yes - np.logaddexp(yes, no)), np.float64)
