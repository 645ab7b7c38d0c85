"""Repetition: a path that says the same again is going in circles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from prunebench.methods.base import Pruner, Scores, Setting, Signal, Source
from prunebench.methods.pool import Pool


@dataclass
class Repetition(Pruner):
    """Minus the share of token n-grams that occurred earlier in the same prefix: 0 for none, towards -1 for a loop.

    Of the G = L - n + 1 n-grams of a prefix of L tokens, D are distinct; the score is -(G - D) / G, and 0 where a
    prefix is shorter than n. Higher = keep.
    """

    name = "repetition"
    source = Source.EXTERNAL
    requires = frozenset({Signal.TOKEN_IDS})
    paper = "examples/prunebench-repetition"

    n: int = 3

    @classmethod
    def configurations(cls, setting: Setting) -> Sequence[Self]:
        return [cls(n) for n in (1, 2, 3, 4)]

    def score(self, pool: Pool) -> Scores:
        return np.array([-self._repeated(ids) for ids in pool.token_ids])

    def _repeated(self, ids: NDArray[np.int64]) -> float:
        """The share of n-grams of one prefix (tokens,) that are not the first of their kind."""
        if len(ids) < self.n:
            return 0.0
        windows = np.lib.stride_tricks.sliding_window_view(ids, self.n)
        return 1.0 - len(np.unique(windows, axis=0)) / len(windows)
