"""Pools drawn from scored paths: what they cost and what the vote over the kept paths is worth, all draws at once.

Order, cut, vote and cost are those of the comparison at equal cost (:mod:`prunebench.bench.evaluation`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prunebench.bench.evaluation.metrics import avg_at_k
from prunebench.bench.evaluation.subsampling import subsample_order
from prunebench.bench.guideline.scores import ScoredPaths
from prunebench.bench.policies.contract import highest
from prunebench.bench.policies.votes import Majority
from prunebench.methods.controls.random_choice import RandomChoice

Array = NDArray[np.float64]
CHANCE = RandomChoice.name


def orders_of(problems: Sequence[ScoredPaths], draws: int, seed: int) -> list[NDArray[np.int64]]:
    """(draws, M) by problem: which stored path comes at which place of a draw."""
    return [
        np.stack([subsample_order(paths.task, paths.problem, len(paths.lengths), draw, seed) for draw in range(draws)])
        for paths in problems
    ]


def token_cost(problems: Sequence[ScoredPaths]) -> float:
    """What one generator token costs: the mean over all tokens of the complete paths."""
    whole = sum(float((paths.launch + paths.resume).sum()) for paths in problems)
    return whole / sum(int(paths.lengths.sum()) for paths in problems)


@dataclass(frozen=True)
class Pools:
    """The pools of one task's problems, cut by one method after one prefix length; where all are kept, unchecked.

    ``orders`` as of :func:`orders_of`: a pool of n paths is the first n of a draw. ``token`` as of :func:`token_cost`.
    """

    problems: Sequence[ScoredPaths]
    method: str
    orders: Sequence[NDArray[np.int64]]
    token: float

    def costs(self, n: int, k: int) -> Array:
        """(problems,) generator tokens that pools of ``n`` paths cost of which ``k`` go on, means over the draws.

        Some draws took longer paths than others: what complete paths cost is known exactly, and corrects for it.
        """
        costs = []
        for paths, drawn in self._drawn(n):
            whole = paths.launch + paths.resume
            expected, met = n * whole.mean(), whole[drawn].sum(1).mean()
            spent = met
            if k < n:
                kept = self._keep(paths, drawn, k)
                launched, resumed = paths.launch[drawn].sum(1), (paths.resume[drawn] * kept).sum(1)
                spent = (launched + resumed).mean() + paths.checks[self.method] * n
            costs.append(spent * expected / met / self.token)
        return np.array(costs)

    def accuracies(self, n: int, k: int) -> tuple[Array, Array]:
        """(problems,) maj@k|N and avg@k|N, means over the draws; a vote without any answer is wrong."""
        maj, avg = [], []
        for paths, drawn in self._drawn(n):
            keep = self._keep(paths, drawn, k)
            right, _ = Majority().correctness(paths.answer_class[drawn], keep, paths.gold_class)
            maj.append(right.mean())
            avg.append(avg_at_k(paths.correct[drawn], keep).mean())
        return np.array(maj), np.array(avg)

    def _drawn(self, n: int) -> list[tuple[ScoredPaths, NDArray[np.int64]]]:
        return [(paths, order[:, :n]) for paths, order in zip(self.problems, self.orders, strict=True)]

    def _keep(self, paths: ScoredPaths, drawn: NDArray[np.int64], k: int) -> NDArray[np.bool_]:
        """bool (draws, n). Chance draws anew with every pool, whose paths come in a random order."""
        if self.method == CHANCE:
            return np.broadcast_to(np.arange(drawn.shape[1]) < k, drawn.shape)
        return highest(paths.scores[self.method][drawn], k)
