"""One check: a fixed number of paths goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prunebench.bench.errors import UserError
from prunebench.bench.policies.contract import CheckRecord, Decision, FinishedRule, Policy, keep_best, policy, require
from prunebench.bench.policies.ratio import Ratio


@policy
@dataclass(frozen=True)
class TopK(Policy):
    """One check; the k best go on. Raises UserError for k < 1, and when there are fewer than k paths."""

    kind = "topk"
    example = "topk:8"

    k: int
    finished: FinishedRule = "rank"

    def __post_init__(self) -> None:
        require(self, self.k >= 1, "k must be at least 1")

    def checkpoints(self, position: int) -> tuple[int, ...]:
        return (position,)

    def scaled(self, paths: int, of: int) -> Policy:
        return Ratio(self.k / of, self.finished)

    def decide(self, history: Sequence[CheckRecord]) -> Decision:
        record = history[-1]
        if self.k > len(record.scores):
            raise UserError(f"policy {self} keeps {self.k} of {len(record.scores)} paths; choose k <= n")
        return Decision(keep_best(record, self.k, self.finished))
