"""A bar that the first paths of a problem set for the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from prunebench.bench.errors import UserError
from prunebench.bench.policies.contract import (
    CheckRecord,
    Decision,
    FinishedRule,
    Policy,
    finite_scores,
    policy,
    reach,
    require,
)
from prunebench.bench.policies.repeated import Repeated


@policy
@dataclass(frozen=True)
class WarmupPercentile(Repeated):
    """DeepConf online (arXiv 2508.15260): the first ``warmup`` paths run to their end and set the bar for the others.

    The bar at a check is the (100 - eta)th percentile of the warm-up paths' lowest scores so far: eta 90 is lenient, 10
    strict. Another path goes on while its score is at least the bar; a warm-up path under it does not vote. The source
    takes the minima of whole warm-up paths, and looks after every token; here the minima are those of the checks up to
    this one, since scores at other lengths are not comparable.
    """

    kind = "warmup"
    example = "warmup:90,warmup=16,every=40"

    eta: float
    warmup: int = 16
    finished: FinishedRule = field(default="rank", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, 0 < self.eta < 100, "eta must be above 0 and under 100")
        require(self, self.warmup >= 1, "warmup must be at least 1")

    def scaled(self, paths: int, of: int) -> Policy:
        return replace(self, warmup=max(1, round(self.warmup * paths / of)))

    def decide(self, history: Sequence[CheckRecord]) -> Decision:
        record = history[-1]
        count = len(record.scores)
        if self.warmup >= count:
            raise UserError(f"policy {self} warms up with all of {count} paths; choose warmup < n")
        first = np.arange(count) < self.warmup
        lowest = np.min([finite_scores(record)[first] for record in history], axis=0)
        bar = float(np.percentile(lowest, 100 - self.eta))
        under = np.zeros(count, np.bool_)
        under[: self.warmup] = lowest < bar
        return Decision(reach(record, bar, self.finished) | (first & record.alive), silent=under)
