"""Varentropy: how unevenly the model's doubt is spread over the next words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prunebench.methods.base import Pruner, Scores, Signal, Source
from prunebench.methods.pool import Pool
from prunebench.methods.registry import pruner


@pruner
@dataclass
class Varentropy(Pruner):
    """Minus the mean over the prefix of Var[-log p], the variance of the surprise under the next-token distribution.

    It is 0 where one token is certain and where all are equally likely, and large where a few strong candidates stand
    before many weak ones. The source takes a low value, beside a low entropy, as a sign of confidence: lower = better.
    """

    name = "varentropy"
    source = Source.INTERNAL
    requires = frozenset({Signal.VARENTROPY})
    paper = "xjdr-alt/entropix"
    pointwise = True

    def score(self, pool: Pool) -> Scores:
        return np.array([-float(np.mean(varentropy, dtype=np.float64)) for varentropy in pool.varentropy])
