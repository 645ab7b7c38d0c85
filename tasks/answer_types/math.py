"""Mathematics: numbers and expressions, equal when they mean the same."""

from __future__ import annotations

import re
from collections.abc import Sequence

from prunebench.tasks import grading
from prunebench.tasks.answer_types import statements
from prunebench.tasks.answer_types.base import BOXED, LAST_BOX, STATED, AnswerType, ReadingRule
from prunebench.tasks.answer_types.boxes import joined_box
from prunebench.tasks.answer_types.registry import answer_type
from prunebench.tasks.answer_types.values import bold_alone, expression_alone, expression_in, is_prose
from prunebench.tasks.grading import Verdict

_LOOKS_LIKE_MATHEMATICS = re.compile(r"[\d\\^=+*/]")

_GROUPED = re.compile(r"\d(?:,|\{,\}| )\d")
_WHOLE = re.compile(r"\d\.0+$")
"""An integer with nothing behind its point: perhaps what a spreadsheet made of it."""
"""Digits in groups: a decimal comma or two numbers to some."""


def _ends_with(text: str) -> str | None:
    """The only line of a text that is an expression, or its last line where that is a bold one."""
    line, last = statements.only_line(text), statements.last_line(text)
    answer = expression_alone(line) if line else None
    bold = bold_alone(last) if last else None
    return answer or (expression_alone(bold) if bold else None)


@answer_type
class MathAnswers(AnswerType):
    """Any expression; see :func:`prunebench.tasks.grading.equal`."""

    name = "math"
    form = "a number or an expression"
    rules = (
        ReadingRule(BOXED, joined_box),
        ReadingRule(STATED, lambda text: statements.stated(text, expression_in, expression_alone)),
        ReadingRule(STATED, _ends_with, at_end=True),
    )
    strict_rules = (LAST_BOX,)
    numbers = True
    place = 2

    def alone(self, text: str) -> bool:
        return super().alone(text) and not is_prose(text)

    def accepts(self, gold: str) -> bool:
        return grading.read(gold).value != ""

    def read_as(self, gold: str) -> str | None:
        value = grading.number(gold)
        return str(value) if value is not None and (_GROUPED.search(gold) or _WHOLE.search(gold)) else None

    def equal(self, answer: str, gold: str) -> Verdict:
        return grading.equal(answer, gold)

    def classes(self, answers: Sequence[str | None]) -> list[int]:
        return grading.classes(answers)

    def guess(self, golds: Sequence[str]) -> float:
        alike = sum(_LOOKS_LIKE_MATHEMATICS.search(gold) is not None for gold in golds)
        return 0.5 if 2 * alike >= len(golds) else 0.0
