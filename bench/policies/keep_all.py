"""One check that changes nothing: what pruning is measured against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prunebench.bench.policies.contract import CheckRecord, Decision, Policy, policy


@policy
@dataclass(frozen=True)
class KeepAll(Policy):
    """All paths go on, whatever they score."""

    kind = "keep all"
    example = "keep all"

    def checkpoints(self, position: int) -> tuple[int, ...]:
        return (position,)

    def decide(self, history: Sequence[CheckRecord]) -> Decision:
        return Decision(history[-1].alive.copy())
