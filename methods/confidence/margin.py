"""Margin: how far the model's first choice is ahead of its second."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from prunebench.methods.base import Pruner, Scores, Setting, Signal, Source
from prunebench.methods.pool import Pool
from prunebench.methods.registry import pruner


@pruner
@dataclass
class Margin(Pruner):
    """Mean of l[t, 1] - l[t, 2], the gap between the two largest log-probabilities; higher = keep.

    AdaDec (arXiv 2506.08980) pauses where the entropy passes a threshold that it learns for each model, and re-ranks
    the candidates there. Of this the *where* is taken: with ``entropy_quantile`` q only those tokens of a prefix count
    whose entropy is at least the q-quantile (the lower order statistic) of that prefix; 0 counts all of them.

    The entropy is that of the recorded alternatives, with all the others together as one more: a lower bound of the
    true one that needs no second signal, so that any engine that gives the top 2 can be scored. In the source a high
    entropy means doubt; its sign does not enter here.
    """

    name = "margin"
    source = Source.INTERNAL
    requires = frozenset({Signal.TOPK_LOGPROBS})
    paper = "arXiv 2506.08980"
    pointwise = True

    entropy_quantile: float = 0.0

    @classmethod
    def configurations(cls, setting: Setting) -> Sequence[Self]:
        """All tokens, the less certain half, fifth and tenth."""
        return [cls(entropy_quantile=quantile) for quantile in (0.0, 0.5, 0.8, 0.9)]

    def score(self, pool: Pool) -> Scores:
        if not 0 <= self.entropy_quantile <= 1:
            raise ValueError(f"margin: entropy_quantile = {self.entropy_quantile}: give a number from 0 to 1")
        return np.array([self._of(logprobs.astype(np.float64)) for logprobs in pool.topk_logprobs])

    def _of(self, topk: NDArray[np.float64]) -> float:
        if topk.shape[1] < 2:
            raise ValueError(
                f"margin: 2 log-probabilities per token are needed, but only {topk.shape[1]} was recorded; "
                "record the top 2 or more"
            )
        gaps = topk[:, 0] - topk[:, 1]
        if self.entropy_quantile == 0:
            return float(gaps.mean())
        entropy = _entropy(topk)
        threshold = np.quantile(entropy, self.entropy_quantile, method="lower")
        return float(gaps[entropy >= threshold].mean())


def _entropy(topk: NDArray[np.float64]) -> NDArray[np.float64]:
    """(tokens,) entropy in nats of (tokens, k) log-probabilities, what they leave over taken as one outcome."""
    probabilities = np.exp(topk)
    rest = np.clip(1 - probabilities.sum(axis=1), 1e-300, None)
    spread: NDArray[np.float64] = -(probabilities * topk).sum(axis=1) - rest * np.log(rest)
    return spread
