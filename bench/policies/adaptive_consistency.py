"""Over completed paths: enough when the leading answer is unlikely to be overtaken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prunebench.bench.policies.contract import CheckRecord, Decision, Policy, policy, require


@policy
@dataclass(frozen=True)
class AdaptiveConsistency(Policy):
    """arXiv 2305.11860: one complete path after another until the leading answer is unlikely to be overtaken.

    Enough is when 1 - BetaCDF(1/2; v1 + 1, v2 + 1) >= ``level`` for the two leading counts v1 >= v2, or at ``most``
    paths. It begins with one path; paths without an answer count for nobody.
    """

    kind = "adaptive"
    example = "adaptive:0.95,most=40"
    over_completed = True

    level: float = 0.95
    most: int = 40

    def __post_init__(self) -> None:
        require(self, 0.5 < self.level < 1, "level must be above 0.5 and under 1")
        require(self, self.most >= 1, "most must be at least 1")

    @property
    def first(self) -> int:
        return 1

    def checkpoints(self, position: int) -> tuple[int, ...]:
        return ()

    def decide(self, history: Sequence[CheckRecord]) -> Decision:
        from scipy.special import betainc

        answers = history[-1].answer_class
        counts = sorted(np.unique(answers[answers >= 0], return_counts=True)[1].tolist(), reverse=True)
        leading, second = [*counts, 0, 0][:2]
        sure = 1 - betainc(leading + 1, second + 1, 0.5) >= self.level
        enough = bool(sure) or len(answers) >= self.most
        return Decision(np.ones(len(answers), np.bool_), 0 if enough else 1, enough)
