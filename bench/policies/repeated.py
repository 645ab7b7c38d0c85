"""Policies that check again and again at equal distances."""

from __future__ import annotations

from dataclasses import dataclass, field

from prunebench.bench.policies.contract import Policy, require


@dataclass(frozen=True)
class Repeated(Policy):
    """Checks at L, L + every, ..., ``checks`` of them; ``every`` 0 stands for L, the experiment's checkpoint."""

    every: int = field(default=0, kw_only=True)
    checks: int = field(default=4, kw_only=True)

    def __post_init__(self) -> None:
        require(self, self.every >= 0, "every must be at least 0 (0: as many tokens as the first checkpoint)")
        require(self, self.checks >= 1, "checks must be at least 1")

    def checkpoints(self, position: int) -> tuple[int, ...]:
        return tuple(position + number * (self.every or position) for number in range(self.checks))
