"""Numbers of which some were rounded, or computed in floating point."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from prunebench.tasks.answer_types.math import MathAnswers
from prunebench.tasks.answer_types.registry import answer_type
from prunebench.tasks.grading import Verdict, number

NEAR = Fraction(1, 10_000)
"""What published evaluations of arithmetic word problems allow."""


@answer_type
class DecimalAnswers(MathAnswers):
    """Numbers that differ by 0.0001 at most, so that 2/3 is an answer to 0.6666666666666666."""

    name = "decimal"
    form = "a number"
    place = 5

    def accepts(self, gold: str) -> bool:
        return number(gold) is not None

    def equal(self, answer: str, gold: str) -> Verdict:
        ours, theirs = number(answer), number(gold)
        if ours is None or theirs is None:
            return super().equal(answer, gold)
        return Verdict(abs(ours - theirs) <= NEAR, "decimal 1")

    def classes(self, answers: Sequence[str | None]) -> list[int]:
        """As mathematics, but that a number joins the first class with a number near it."""
        joined: dict[int, int] = {-1: -1}
        values: dict[int, Fraction] = {}
        for answer, exact in zip(answers, exactly := super().classes(answers), strict=True):
            value = None if answer is None or exact in joined else number(answer)
            near = (place for place, other in values.items() if value is not None and abs(value - other) <= NEAR)
            place = joined.setdefault(exact, next(near, len(set(joined.values()) - {-1})))
            if value is not None:
                values.setdefault(place, value)
        return [joined[exact] for exact in exactly]

    def guess(self, golds: Sequence[str]) -> float:
        return 0.0
