"""Integers."""

from __future__ import annotations

from collections.abc import Sequence

from prunebench.tasks.answer_types.math import MathAnswers
from prunebench.tasks.answer_types.registry import answer_type
from prunebench.tasks.grading import number


@answer_type
class IntegerAnswers(MathAnswers):
    """Mathematics whose gold answers are integers."""

    name = "integer"
    form = "an integer"
    place = 1

    def accepts(self, gold: str) -> bool:
        value = number(gold)
        return value is not None and value.denominator == 1

    def guess(self, golds: Sequence[str]) -> float:
        return float(len(golds) > 0 and all(map(self.accepts, golds)))
