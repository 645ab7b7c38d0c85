"""Perplexity: how surprised the model was by its own words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prunebench.methods.base import Pruner, Scores, Signal, Source
from prunebench.methods.pool import Pool
from prunebench.methods.registry import pruner


@pruner
@dataclass
class Perplexity(Pruner):
    """Mean log-probability of the sampled tokens: minus the log of the perplexity (which is lower = better)."""

    name = "perplexity"
    source = Source.INTERNAL
    requires = frozenset({Signal.LOGPROBS})
    paper = "classical"
    pointwise = True

    def score(self, pool: Pool) -> Scores:
        return np.array([float(np.mean(logprobs, dtype=np.float64)) for logprobs in pool.logprobs])
