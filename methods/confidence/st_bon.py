"""ST-BoN: a path whose states move through the layers as those of the others do is likely to be right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prunebench.methods.base import Pruner, Scores, Signal, Source
from prunebench.methods.pool import Pool
from prunebench.methods.registry import pruner

_SMALLEST = 1e-8
"""Norms and angles that are divided by are at least this, as in the source."""


@pruner
@dataclass
class SelfTruncation(Pruner):
    """Minus the mean squared distance of a path's Chain-of-Embedding feature to those of the other paths.

    arXiv 2503.01422 (Alsace08/ST-BoN). With h^l the state after l of L blocks, its mean over the tokens so far,
    F = mean_l [ |h^l - h^(l+1)| / |h^0 - h^L| - angle(h^l, h^(l+1)) / angle(h^0, h^L) ], l = 0..L-1. Needs the whole
    pool; a path alone scores 0. The source keeps the smallest distance: lower = better there.

    Difference: the source lets the steps of a window vote for one path; here the checkpoint is the only step.
    """

    name = "st-bon"
    source = Source.INTERNAL
    requires = frozenset({Signal.STATES})
    paper = "arXiv 2503.01422"

    def score(self, pool: Pool) -> Scores:
        layers = [pool.states(layer) for layer in sorted(pool.read(Signal.STATES))]
        feature = chain_of_embedding(np.stack([[path.mean(0, np.float64) for path in layer] for layer in layers]))
        distances = (feature[:, None] - feature[None, :]) ** 2
        return np.asarray(-distances.sum(axis=1) / max(1, len(feature) - 1), np.float64)


def chain_of_embedding(states: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,) feature F of (layers + 1, N, H) states: steps in length minus steps in angle, each over the whole way."""
    lengths = np.linalg.norm(states[1:] - states[:-1], axis=-1)
    way = np.linalg.norm(states[-1] - states[0], axis=-1)
    turn = _angle(states[0], states[-1])
    steps = lengths / np.maximum(way, _SMALLEST) - _angle(states[:-1], states[1:]) / np.maximum(turn, _SMALLEST)
    feature: NDArray[np.float64] = steps.mean(axis=0)
    return feature


def _angle(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Angle in radians between vectors along the last axis; exact for nearly parallel ones too, unlike the arccos."""
    start, end = (
        vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), _SMALLEST) for vectors in (first, second)
    )
    angle: NDArray[np.float64] = 2 * np.arctan2(
        np.linalg.norm(start - end, axis=-1), np.linalg.norm(start + end, axis=-1)
    )
    return angle
