"""A bar that is known beforehand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from prunebench.bench.policies.contract import CheckRecord, Decision, FinishedRule, keep_best, policy, reach, require
from prunebench.bench.policies.repeated import Repeated


@policy
@dataclass(frozen=True)
class Threshold(Repeated):
    """At every check the paths that score at least ``bar`` go on; where none does, the best one. Default: one check."""

    kind = "threshold"
    example = "threshold:0.5,every=40,checks=3"

    bar: float
    checks: int = field(default=1, kw_only=True)
    finished: FinishedRule = field(default="rank", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, math.isfinite(self.bar), "the bar must be a finite number")

    def decide(self, history: Sequence[CheckRecord]) -> Decision:
        above = reach(history[-1], self.bar, self.finished)
        return Decision(above if above.any() else keep_best(history[-1], 1, self.finished))
