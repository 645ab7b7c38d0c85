"""Pruning when the cache is full."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from prunebench.bench.policies.contract import CheckRecord, Decision, FinishedRule, Policy, keep_best, policy, require
from prunebench.bench.policies.repeated import Repeated


@policy
@dataclass(frozen=True)
class MemoryTriggered(Repeated):
    """STEP (arXiv 2601.09093): when the paths alive hold more than ``tokens`` in the cache, the best that fit go on.

    Every path alive is counted with as many tokens as the checkpoint has, also one that has ended. One path always
    goes on.
    """

    kind = "memory"
    example = "memory:2560,every=40"

    tokens: int
    finished: FinishedRule = field(default="rank", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, self.tokens >= 1, "tokens must be at least 1")

    def scaled(self, paths: int, of: int) -> Policy:
        return replace(self, tokens=max(1, round(self.tokens * paths / of)))

    def decide(self, history: Sequence[CheckRecord]) -> Decision:
        record = history[-1]
        fitting = max(1, self.tokens // max(1, record.position))
        return Decision(keep_best(record, fitting, self.finished))
