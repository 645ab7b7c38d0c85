"""DEER: how sure the model is of the answer that it would give now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from prunebench.methods.base import Cost, Probe, Pruner, Scores, Setting, Signal, Source
from prunebench.methods.pool import Pool
from prunebench.methods.registry import pruner


@dataclass
class ForcedAnswers(Pruner):
    """What forces a final answer of at most ``answer_tokens`` tokens: :meth:`ask` once, then :meth:`told` for the rest.

    Online the suffix and the answer are decoded behind the cache of the prefix, which is not encoded again.
    """

    requires: ClassVar[frozenset[Signal]] = frozenset({Signal.PROBE})
    extra_cost: ClassVar[str] = "probes every path (<= 20 tokens)"

    answer_tokens: int = 20

    def asked(self, pool: Pool) -> NDArray[np.int64]:
        """The rows that are asked. Default: all."""
        return np.arange(len(pool))

    def ask(self, pool: Pool) -> Probe:
        """The forced answers of the rows that are asked, in their order."""
        rows = self.asked(pool)
        if len(rows) == len(pool):
            probe = pool.probe(self.answer_tokens)
        elif len(rows):
            probe = pool.take(rows).probe(self.answer_tokens)
        else:
            probe = Probe((), (), np.zeros(0, np.int64))
        self.told_ = (pool, probe)
        return probe

    def told(self, pool: Pool) -> Probe:
        """What was told about this very pool, so that its cost and answers need no second probe; else it is asked."""
        known, probe = getattr(self, "told_", (None, None))
        return probe if probe is not None and known is pool else self.ask(pool)

    def cost(self, pool: Pool) -> Cost:
        """Suffix and generated tokens of every row that is asked."""
        answers = self.told(pool).token_ids
        suffix = pool.words.closing + len(pool.words.answer) if pool.words else 0
        return Cost(probe_tokens=sum(suffix + len(ids) for ids in answers))


@pruner
@dataclass
class Deer(ForcedAnswers):
    """Mean probability of the tokens of a trial answer, forced at the checkpoint and decoded greedily.

    arXiv 2504.15895 (iie-ycx/DEER); higher = keep, as in the source, which ends a path above 0.95. ``average``:
    ``arithmetic``, (1/m) sum_t p_t over the m tokens, or ``geometric``, (prod_t p_t)^(1/m), the source's choice for
    models that are too sure of themselves. 0 where nothing was generated.

    Every generated token counts, the closing and the stop token too: which they are is the tokenizer's knowledge, and
    whether the model holds its answer for complete is part of its confidence. The source tries at the ends of thoughts;
    here the checkpoint decides. Finished paths are asked like the others.
    """

    name: ClassVar[str] = "deer"
    source: ClassVar[Source] = Source.INTERNAL
    paper: ClassVar[str] = "arXiv 2504.15895"
    pointwise: ClassVar[bool] = True
    probability: ClassVar[bool] = True

    average: Literal["arithmetic", "geometric"] = "arithmetic"

    @classmethod
    def configurations(cls, setting: Setting) -> Sequence[Self]:
        return [cls(average="arithmetic"), cls(average="geometric")]

    def score(self, pool: Pool) -> Scores:
        return np.array([self._of(logprobs) for logprobs in self.ask(pool).token_logprobs])

    def _of(self, logprobs: NDArray[np.float64]) -> float:
        if not len(logprobs):
            return 0.0
        return float(np.exp(logprobs).mean() if self.average == "arithmetic" else np.exp(logprobs.mean()))
