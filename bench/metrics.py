"""Measures of one problem: accuracy of what was kept, and how well scores rank its N paths. NaN where undefined."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def avg_at_k(correct: Array, keep: NDArray[np.bool_]) -> float:
    """Mean correctness of the kept paths; NaN when none is kept. ``correct`` (N,) 0/1 or rates, ``keep`` bool (N,)."""
    return float(correct[keep].mean()) if keep.any() else math.nan


def pass_at_k(correct: Array, keep: NDArray[np.bool_]) -> float:
    """1 when a kept path is correct, else 0; NaN when none is kept."""
    return float(correct[keep].max()) if keep.any() else math.nan


def expected_pass_at_k(n: int, correct: int, k: int) -> float:
    """P(a correct path is among k drawn without replacement from n): 1 - C(n - correct, k) / C(n, k).

    Hypergeometric; the estimator of arXiv 2107.03374, eq. 1. Raises ValueError unless 0 <= correct <= n, 1 <= k <= n.
    """
    if not (0 <= correct <= n and 1 <= k <= n):
        raise ValueError(f"expected_pass_at_k(n={n}, correct={correct}, k={k}): needs 0 <= correct <= n, 1 <= k <= n")
    return 1 - math.comb(n - correct, k) / math.comb(n, k)


def auroc(scores: Array, correct: Array) -> float:
    """P(a correct path scores above a wrong one), ties half; NaN when all paths have the same verdict.

    ``scores`` is (N,) or (draws, N), then the mean over draws; ``correct`` (N,) is 0/1.
    """
    from scipy.stats import rankdata

    right = correct > 0.5
    n_right = int(right.sum())
    n_wrong = len(right) - n_right
    if not n_right or not n_wrong:
        return math.nan
    ranks = rankdata(np.atleast_2d(scores), axis=1)
    wins = ranks[:, right].sum(axis=1) - n_right * (n_right + 1) / 2
    return float((wins / (n_right * n_wrong)).mean())


def spearman(scores: Array, values: Array) -> float:
    """Rank correlation with ``values`` (N,); NaN when either side is constant.

    ``scores`` is (N,) or (draws, N), then the mean over draws (NaN when one draw is constant).
    """
    from scipy.stats import rankdata

    left = rankdata(np.atleast_2d(scores), axis=1)
    right = rankdata(values)
    left -= left.mean(axis=1, keepdims=True)
    right -= right.mean()
    scale = np.sqrt((left**2).sum(axis=1) * (right**2).sum())
    if len(right) < 2 or not (scale > 0).all():
        return math.nan
    return float((left @ right / scale).mean())
