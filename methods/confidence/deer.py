"""DEER: how sure the model is of the answer that it would give now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from prunebench.methods.base import Pruner, Scores, Setting, Signal, Source
from prunebench.methods.pool import Pool
from prunebench.methods.registry import pruner


@pruner
@dataclass
class Deer(Pruner):
    """Mean probability of the tokens of a trial answer, forced at the checkpoint and decoded greedily.

    arXiv 2504.15895 (iie-ycx/DEER); higher = keep, as in the source, which ends a path above 0.95. ``average``:
    ``arithmetic``, (1/m) sum_t p_t over the m tokens, or ``geometric``, (prod_t p_t)^(1/m), the source's choice for
    models that are too sure of themselves. 0 where no answer was generated; what closes the answer does not count.

    The source tries at the ends of thoughts; here the checkpoint decides. Finished paths are asked like the others.
    """

    name = "deer"
    source = Source.INTERNAL
    requires = frozenset({Signal.PROBE})
    paper = "arXiv 2504.15895"
    pointwise = True
    probability = True
    extra_cost = "probes every path (<= 20 tokens)"

    answer_tokens: int = 20
    average: Literal["arithmetic", "geometric"] = "arithmetic"

    @classmethod
    def configurations(cls, setting: Setting) -> Sequence[Self]:
        return [cls(average="arithmetic"), cls(average="geometric")]

    def score(self, pool: Pool) -> Scores:
        return np.array([self._of(row.token_logprobs[: row.answered]) for row in pool.probe(self.answer_tokens)])

    def _of(self, logprobs: NDArray[np.float64]) -> float:
        if not len(logprobs):
            return 0.0
        return float(np.exp(logprobs).mean() if self.average == "arithmetic" else np.exp(logprobs.mean()))
