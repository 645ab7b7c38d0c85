"""Self-certainty: how far the model's next-token distributions are from knowing nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prunebench.methods.base import Pruner, Scores, Signal, Source
from prunebench.methods.pool import Pool
from prunebench.methods.registry import pruner


@pruner
@dataclass
class SelfCertainty(Pruner):
    """Mean over the prefix of KL(U || p_t) = -(1/V) sum_j log(V p_tj), U uniform over the V tokens, in nats.

    arXiv 2502.18581 (backprop07/Self-Certainty); higher = keep, as in the source. The whole vocabulary enters, so the
    engine computes it while it decodes; a top-k store cannot give it. The source's Borda vote is a vote, not a score.
    """

    name = "self-certainty"
    source = Source.INTERNAL
    requires = frozenset({Signal.SELF_CERTAINTY})
    paper = "arXiv 2502.18581"
    pointwise = True

    def score(self, pool: Pool) -> Scores:
        return np.array([float(np.mean(certainty, dtype=np.float64)) for certainty in pool.self_certainty])
