"""Over completed paths: a window of one mind is enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prunebench.bench.policies.contract import CheckRecord, Decision, Policy, policy, require


@policy
@dataclass(frozen=True)
class EarlyStoppingConsistency(Policy):
    """ESC (arXiv 2401.10480): complete paths come in windows; the first window of one mind ends the sampling.

    Its answer is the answer; without such a window all paths vote. A path without an answer agrees with nobody.
    """

    kind = "esc"
    example = "esc:5"
    over_completed = True

    window: int = 5

    def __post_init__(self) -> None:
        require(self, self.window >= 1, "window must be at least 1")

    @property
    def first(self) -> int:
        return self.window

    def checkpoints(self, position: int) -> tuple[int, ...]:
        return ()

    def decide(self, history: Sequence[CheckRecord]) -> Decision:
        answers = history[-1].answer_class
        start = (len(answers) - 1) // self.window * self.window
        window = answers[start:]
        unanimous = len(window) == self.window and window[0] >= 0 and bool((window == window[0]).all())
        voters = np.arange(len(answers)) >= (start if unanimous else 0)
        return Decision(voters, 0 if unanimous else self.window, bool(unanimous))
