"""Agreement, asked for again and again: dissenters leave, and a settled answer ends it all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prunebench.bench.policies.contract import CheckRecord, Decision, policy, require
from prunebench.bench.policies.repeated import Repeated


@policy
@dataclass(frozen=True)
class Patience(Repeated):
    """Parallel-Probe (arXiv 2602.03845); every check probes for answers.

    A path whose answer is not the mode of the answers alive has missed; ``misses`` misses in a row drop it, those of
    the first ``warmup_checks`` checks not counted. When the mode has been the same at ``stable`` checks in a row,
    everything stops and the paths that are alive vote with their present answers. Equally frequent answers: the
    smallest class. No answer is a miss when another path has one, and never the mode. A path that has ended has its say
    in the mode and is never dropped.
    """

    kind = "patience"
    example = "patience:2,warmup_checks=1,stable=3,every=40"
    reads_answers = True

    misses: int
    warmup_checks: int = 0
    stable: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, self.misses >= 1, "misses must be at least 1")
        require(self, self.warmup_checks >= 0, "warmup_checks must be at least 0")
        require(self, self.stable >= 1, "stable must be at least 1")

    def decide(self, history: Sequence[CheckRecord]) -> Decision:
        modes = [record.mode for record in history]
        keep = history[-1].alive.copy()
        if len(history) >= self.warmup_checks + self.misses:
            recent = zip(history[-self.misses :], modes[-self.misses :], strict=True)
            agreed = np.any([record.answer_class == mode for record, mode in recent], axis=0)
            keep &= agreed | history[-1].finished
        same = modes[-self.stable :]
        settled = len(same) == self.stable and same[-1] >= 0 and len(set(same)) == 1
        return Decision(keep, stop_all=settled)
