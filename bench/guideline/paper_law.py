"""The STOP paper's guideline: how many paths to keep, by budget, prefix and task (arXiv 2604.16029, Eq. 7).

1/gamma = a * C^b * Lp^c / Lt^d, with the retention ratio gamma = k/N, the budget C per problem, the prefix length Lp
and the mean path length Lt, each in units of 1,024 tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from prunebench.bench.errors import UserError

UNIT = 1024
"""Tokens per unit of C, Lp and Lt."""


@dataclass(frozen=True)
class RetentionLaw:
    """The constants of Eq. 7. All lengths and budgets are passed in tokens."""

    a: float
    b: float
    c: float
    d: float

    def inverse_gamma(self, budget: float, prefix: float, task_length: float) -> float:
        """1/gamma as the formula gives it, also below 1, where no retention ratio answers to it.

        Raises UserError unless all three are positive and finite.
        """
        for name, tokens in (("budget", budget), ("prefix", prefix), ("task_length", task_length)):
            if not 0 < tokens < math.inf:
                raise UserError(f"{name} = {tokens}: give a positive number of tokens")
        grown = math.pow(budget / UNIT, self.b) * math.pow(prefix / UNIT, self.c)
        return self.a * grown / math.pow(task_length / UNIT, self.d)

    def gamma(self, budget: float, prefix: float, task_length: float) -> float:
        """The retention ratio, above 0 and at most 1.

        Raises UserError where the formula gives more than 1: the law does not hold there.
        """
        inverse = self.inverse_gamma(budget, prefix, task_length)
        if not inverse >= 1:
            raise UserError(
                f"budget = {budget:g}, prefix = {prefix:g}, task_length = {task_length:g} tokens: 1/gamma = "
                f"{inverse:.2g}, a retention ratio above 1; the law does not hold here, fit one to runs at such lengths"
            )
        return 1 / inverse


PAPER = RetentionLaw(a=1.17e4, b=0.46, c=0.40, d=4.55)
"""The paper's fit for maj@k|N, on two tasks and one 1.5B model. It does not carry to other lengths."""
