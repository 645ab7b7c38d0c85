"""Every path for itself: one that gives the same answer again and again has said what it had to say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prunebench.bench.policies.contract import CheckRecord, Decision, policy, require
from prunebench.bench.policies.repeated import Repeated


@policy
@dataclass(frozen=True)
class AnswerStreak(Repeated):
    """Dynasor (hao-ai-lab/Dynasor): a path ends once ``streak`` checks in a row found the same answer, its vote.

    Every check probes for answers; no path is dropped, and the others write to their ends. The source also waits while
    the probed text holds a word of doubt; here only its answer is read.
    """

    kind = "streak"
    example = "streak:2,every=40,checks=6"
    reads_answers = True

    streak: int

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, self.streak >= 1, "streak must be at least 1")

    def decide(self, history: Sequence[CheckRecord]) -> Decision:
        last, recent = history[-1], history[-self.streak :]
        same = np.all([record.answer_class == last.answer_class for record in recent], axis=0)
        settled = same & (last.answer_class >= 0) & last.alive & (len(recent) == self.streak)
        return Decision(last.alive.copy(), settled=settled)
