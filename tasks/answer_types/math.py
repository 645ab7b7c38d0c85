"""Mathematics: numbers and expressions, equal when they mean the same."""

from __future__ import annotations

import re
from collections.abc import Sequence

from prunebench.tasks import grading
from prunebench.tasks.answer_types.base import AnswerType
from prunebench.tasks.answer_types.registry import answer_type
from prunebench.tasks.grading import Verdict

_LOOKS_LIKE_MATHEMATICS = re.compile(r"[\d\\^=+*/]")


@answer_type
class MathAnswers(AnswerType):
    """Any expression; see :func:`prunebench.tasks.grading.equal`."""

    name = "math"
    form = "a number or an expression"
    place = 2

    def accepts(self, gold: str) -> bool:
        return grading.read(gold).value != ""

    def equal(self, answer: str, gold: str) -> Verdict:
        return grading.equal(answer, gold)

    def classes(self, answers: Sequence[str | None]) -> list[int]:
        return grading.classes(answers)

    def guess(self, golds: Sequence[str]) -> float:
        alike = sum(_LOOKS_LIKE_MATHEMATICS.search(gold) is not None for gold in golds)
        return 0.5 if 2 * alike >= len(golds) else 0.0
