"""Procedures: published ways of pruning that are a pruner *and* a policy of its own, listed among the methods."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from prunebench.bench.policies import (
    AdaptiveConsistency,
    AnswerStreak,
    EarlyStoppingConsistency,
    KeepAll,
    MemoryTriggered,
    Patience,
    Policy,
    SpeculativeRejection,
    WarmupPercentile,
)
from prunebench.methods.base import Pruner, Scores, Source
from prunebench.methods.pool import Pool


@dataclass
class CompletedAnswers(Pruner):
    """What procedures over completed paths read: their answers. Every path scores alike."""

    name = "completed-answers"
    source = Source.EXTERNAL
    requires = frozenset()
    paper = "-"

    def score(self, pool: Pool) -> Scores:
        return np.zeros(len(pool))


@dataclass(frozen=True)
class Procedure:
    """``method``: the pruner that scores (None: the completed answers alone); ``settings`` replace its tuned values.

    ``policy`` builds the policy for N paths, k of which an ordinary method would keep at ``position``.
    """

    method: str | None
    policy: Callable[[int, int, int], Policy]
    paper: str
    extra_cost: str
    settings: tuple[tuple[str, Any], ...] = ()

    def pruner(self, scoring: Pruner | None) -> Pruner:
        """The scoring pruner, with all that it has learned, and this procedure's settings."""
        if scoring is None:
            return CompletedAnswers()
        equipped = copy.copy(scoring)
        for name, value in self.settings:
            setattr(equipped, name, value)
        return equipped


NONE = Procedure("none", lambda n, k, position: KeepAll(), "control", "none")
"""The control ``none``: whatever the others run under, it keeps all paths."""

_CHECKS = 6
"""Of a procedure that probes all along its paths, which are six to eight times as long as the first checkpoint.

Parallel-Probe's numbers are those of its source by the length of a path, of about 40 of its rounds: it warms up for 15,
drops after 7 misses, and stops when the mode was the same for 40.
"""

PROCEDURES: dict[str, Procedure] = {
    "esc": Procedure(
        None, lambda n, k, position: EarlyStoppingConsistency(window=5), "arXiv 2401.10480", "whole paths, in windows"
    ),
    "adaptive-consistency": Procedure(
        None, lambda n, k, position: AdaptiveConsistency(), "arXiv 2305.11860", "whole paths, one by one"
    ),
    "parallel-probe": Procedure(
        "agreement",
        lambda n, k, position: Patience(misses=1, warmup_checks=2, stable=6, every=position, checks=_CHECKS),
        "arXiv 2602.03845",
        "probes at every check (<= 20 tokens)",
    ),
    "dynasor": Procedure(
        "agreement",
        lambda n, k, position: AnswerStreak(2, every=position, checks=_CHECKS),
        "hao-ai-lab/Dynasor",
        "probes at every check (<= 20 tokens)",
    ),
    "speculative-rejection": Procedure(
        "prm",
        lambda n, k, position: SpeculativeRejection(alpha=0.5, every=position, checks=3),
        "arXiv 2410.20290",
        "a reward model at every check",
    ),
    "deepconf-online": Procedure(
        "deepconf",
        lambda n, k, position: WarmupPercentile(eta=90, warmup=max(1, n // 4), every=position, checks=3),
        "arXiv 2508.15260",
        "none",
        (("variant", "min"),),
    ),
    "step-memory": Procedure(
        "step",
        lambda n, k, position: MemoryTriggered(tokens=n * position // 2, every=position, checks=3),
        "arXiv 2601.09093",
        "a small network at every end of a step",
    ),
}
