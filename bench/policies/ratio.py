"""One check: a share of the paths goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prunebench.bench.policies.contract import CheckRecord, Decision, FinishedRule, Policy, keep_best, policy, require


@policy
@dataclass(frozen=True)
class Ratio(Policy):
    """One check; the best max(1, round(gamma * N)) go on. Raises UserError unless 0 < gamma <= 1."""

    kind = "ratio"
    example = "ratio:0.125"

    gamma: float
    finished: FinishedRule = "rank"

    def __post_init__(self) -> None:
        require(self, 0 < self.gamma <= 1, "the retention ratio must be above 0 and at most 1")

    def checkpoints(self, position: int) -> tuple[int, ...]:
        return (position,)

    def kept(self, paths: int) -> int:
        """k = gamma N, rounded, at least one."""
        return max(1, round(self.gamma * paths))

    def decide(self, history: Sequence[CheckRecord]) -> Decision:
        record = history[-1]
        return Decision(keep_best(record, self.kept(len(record.scores)), self.finished))
