"""DeepConf: confidence of token groups, read from the most probable alternatives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from prunebench.methods.base import Pruner, Scores, Setting, Signal, Source
from prunebench.methods.pool import Pool
from prunebench.methods.registry import pruner

Variant = Literal["mean", "tail", "bottom", "min"]


@pruner
@dataclass
class DeepConf(Pruner):
    """Offline scores of DeepConf (arXiv 2508.15260; higher = keep, as in the source).

    Token confidence c_t = -(1/k) sum_j l[t, j] over the k largest log-probabilities; group confidence is the mean of c
    over a sliding window. ``mean``: over the prefix; ``tail``: the last window; ``bottom``: mean of the lowest tenth of
    the groups; ``min``: the lowest group. A prefix shorter than the window is one group.
    """

    name = "deepconf"
    source = Source.INTERNAL
    requires = frozenset({Signal.TOPK_LOGPROBS})
    paper = "arXiv 2508.15260"
    pointwise = True

    variant: Variant = "mean"
    window: int = 2048
    k: int = 20

    @classmethod
    def configurations(cls, setting: Setting) -> Sequence[Self]:
        """Four scores, window L/4, and two k: at most 20 and at most a quarter of the vocabulary."""
        window = max(2, setting.prefix_tokens // 4)
        largest = max(1, min(20, setting.vocabulary_size // 4))
        variants: tuple[Variant, ...] = ("mean", "tail", "bottom", "min")
        return [cls(variant, window, k) for k in sorted({largest, max(1, largest // 4)}) for variant in variants]

    def score(self, pool: Pool) -> Scores:
        return np.array([self._of(logprobs) for logprobs in pool.topk_logprobs])

    def _of(self, topk: NDArray[np.float32]) -> float:
        if topk.shape[1] < self.k:
            raise ValueError(f"deepconf: k = {self.k}, but only {topk.shape[1]} log-probabilities were recorded")
        if not len(topk):
            raise ValueError("deepconf: a prefix without tokens has no confidence")
        confidence = -topk[:, : self.k].mean(axis=1, dtype=np.float64)
        width = min(self.window, len(confidence))
        groups = np.convolve(confidence, np.full(width, 1 / width), mode="valid")
        if self.variant == "mean":
            return float(confidence.mean())
        if self.variant == "tail":
            return float(groups[-1])
        if self.variant == "min":
            return float(groups.min())
        lowest = np.sort(groups)[: max(1, round(0.1 * len(groups)))]
        return float(lowest.mean())
