"""Agreement: keep the paths that would now give the answer that most of them would give."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prunebench.methods.base import Pruner, Scores, Signal, Source
from prunebench.methods.pool import Pool
from prunebench.methods.registry import pruner


@pruner
@dataclass
class Agreement(Pruner):
    """How many paths of the pool lead to the same answer class, a path itself included; 0 without an answer.

    arXiv 2602.03845 (zhengkid/Parallel-Probe) at a single check: an answer is forced on every unfinished path, finished
    ones have stated theirs and are neither asked nor charged. What was recorded is read. The mode has the highest score
    (higher = keep); the source prunes what deviates from the mode for several checks, which is a policy over
    :meth:`answers`. The answers alone are read, not the model's confidence in them: an external signal. Needs the whole
    pool.
    """

    name = "agreement"
    source = Source.EXTERNAL
    requires = frozenset({Signal.FORCED_ANSWERS})
    paper = "arXiv 2602.03845"
    extra_cost = "probes every unfinished path (<= 20 tokens)"

    answer_tokens: int = 20

    def score(self, pool: Pool) -> Scores:
        classes = self.answers(pool)
        same = classes[:, None] == classes[None, :]
        return np.where(classes >= 0, same.sum(axis=1), 0).astype(np.float64)

    def answers(self, pool: Pool) -> NDArray[np.int64]:
        """int64 (N,): the probed class of an unfinished path, the stated one of a finished path, -1 none."""
        unfinished = np.flatnonzero(~pool.finished)
        classes = pool.answer_class.copy()
        classes[unfinished] = pool.take(unfinished).forced_answers(self.answer_tokens)
        return classes
