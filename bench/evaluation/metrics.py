"""Measures of one problem: accuracy of what was kept, and how well scores rank its N paths. NaN where undefined."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def avg_at_k(correct: Array, keep: NDArray[np.bool_]) -> Array:
    """(...) mean correctness of the kept paths, NaN when none is kept.

    ``correct`` (N,) or (..., N): 0/1 or rates; ``keep`` bool (..., N).
    """
    count = keep.sum(-1)
    total = np.where(keep, correct, 0.0).sum(-1)
    mean: Array = np.divide(total, count, out=np.full(np.shape(count), math.nan), where=count > 0)
    return mean


def pass_at_k(correct: Array, keep: NDArray[np.bool_]) -> Array:
    """(...) 1 when a kept path is correct, else 0; NaN when none is kept. Shapes as for :func:`avg_at_k`."""
    best = np.where(keep, correct, -math.inf).max(-1, initial=-math.inf)
    return np.where(keep.any(-1), best, math.nan)


def ranks(scores: Array) -> Array:
    """(draws, N) ranks of (N,) or (draws, N) finite scores, ties their mean.

    Those of ``scipy.stats.rankdata``, whose calls were a quarter of a replay's time.
    """
    rows = np.atleast_2d(scores)
    order = rows.argsort(axis=1)
    ordered = np.take_along_axis(rows, order, 1)
    place = np.arange(rows.shape[1])
    new = np.ones(rows.shape, np.bool_)  # where a run of ties begins
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    begin = np.maximum.accumulate(np.where(new, place, 0), axis=1)
    last = np.ones(rows.shape, np.bool_)
    last[:, :-1] = new[:, 1:]
    end = np.minimum.accumulate(np.where(last, place, rows.shape[1])[:, ::-1], axis=1)[:, ::-1]
    ranked = np.empty(rows.shape)
    np.put_along_axis(ranked, order, (begin + end) / 2 + 1, 1)
    return ranked


def auroc(scores: Array, correct: Array, ranked: Array | None = None) -> float:
    """P(a correct path scores above a wrong one), ties half; NaN when all paths have the same verdict.

    ``scores`` is (N,) or (draws, N), then the mean over draws; ``correct`` (N,) is 0/1. ``ranked``: their ranks,
    where they are known.
    """
    right = correct > 0.5
    n_right = int(right.sum())
    n_wrong = len(right) - n_right
    if not n_right or not n_wrong:
        return math.nan
    placed = ranks(scores) if ranked is None else ranked
    wins = placed[:, right].sum(axis=1) - n_right * (n_right + 1) / 2
    return float((wins / (n_right * n_wrong)).mean())


def spearman(scores: Array, values: Array, ranked: Array | None = None) -> float:
    """Rank correlation with ``values`` (N,); NaN when either side is constant.

    ``scores`` is (N,) or (draws, N), then the mean over draws (NaN when one draw is constant). ``ranked`` as for
    :func:`auroc`.
    """
    left = ranks(scores) if ranked is None else ranked
    right = ranks(values)[0]
    left = left - left.mean(axis=1, keepdims=True)
    right = right - right.mean()
    scale = np.sqrt((left**2).sum(axis=1) * (right**2).sum())
    if len(right) < 2 or not (scale > 0).all():
        return math.nan
    return float((left @ right / scale).mean())
