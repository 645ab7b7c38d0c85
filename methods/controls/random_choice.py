"""Keep k paths at random: the expected accuracy is that of all N, so it tests the pipeline for bias."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from prunebench.methods.base import Pruner, Scores, Source
from prunebench.methods.pool import Pool
from prunebench.methods.registry import pruner


@pruner
@dataclass
class RandomChoice(Pruner):
    """Scores from a generator keyed by seed and problem; reported as the mean of 200 draws."""

    name = "random"
    source = Source.CONTROL
    requires = frozenset()
    paper = "control"
    draws = 200

    seed: int = 0

    def score(self, pool: Pool) -> Scores:
        key = hashlib.sha256(f"{self.seed}\x1f{pool.task}\x1f{pool.problem}".encode()).digest()
        drawn = np.random.default_rng(int.from_bytes(key[:8], "big")).random(len(pool))
        scores = np.empty(len(pool))
        scores[np.argsort(pool.paths, kind="stable")] = drawn  # a path keeps its draw wherever its row is
        return scores
