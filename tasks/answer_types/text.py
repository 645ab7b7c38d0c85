"""Texts."""

from __future__ import annotations

from collections.abc import Sequence

from prunebench.tasks.answer_types.base import SpelledAnswers
from prunebench.tasks.answer_types.registry import answer_type
from prunebench.tasks.answer_types.values import is_prose
from prunebench.tasks.spelling import unstyled

MOST_WORDS = 24
"""No longer text is likely to be met word by word."""


@answer_type
class TextAnswers(SpelledAnswers):
    """Equal text, whatever the case, the blanks between its words and the LaTeX that sets its style."""

    name = "text"
    form = "a text"
    grader = "text 2"
    place = 4

    def alone(self, text: str) -> bool:
        return not is_prose(text, MOST_WORDS)

    def accepts(self, gold: str) -> bool:
        return bool(gold.strip())

    def spelling(self, answer: str) -> str:
        return " ".join(unstyled(answer).casefold().split())

    def guess(self, golds: Sequence[str]) -> float:
        return 0.25
