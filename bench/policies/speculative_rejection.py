"""A constant share is dropped at every check."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from prunebench.bench.policies.contract import CheckRecord, Decision, FinishedRule, keep_best, policy, require
from prunebench.bench.policies.repeated import Repeated


@policy
@dataclass(frozen=True)
class SpeculativeRejection(Repeated):
    """arXiv 2410.20290: at each decision point the best ceil((1 - alpha) n) of the n paths alive go on.

    The source decides when its memory is full; here decisions come every ``every`` tokens.
    """

    kind = "rejection"
    example = "rejection:0.5,every=40,checks=3"

    alpha: float
    finished: FinishedRule = field(default="rank", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, 0 < self.alpha < 1, "alpha must be above 0 and under 1")

    def decide(self, history: Sequence[CheckRecord]) -> Decision:
        record = history[-1]
        # (1 - 0.7) * 10 is a little more than 3 in floating point
        left = math.ceil((1 - self.alpha) * int(record.alive.sum()) - 1e-9)
        return Decision(keep_best(record, max(1, left), self.finished))
