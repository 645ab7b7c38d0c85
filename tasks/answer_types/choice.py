"""Multiple choice."""

from __future__ import annotations

import re
from collections.abc import Sequence

from prunebench.tasks.answer_types.base import ReadingRule, SpelledAnswers
from prunebench.tasks.answer_types.registry import answer_type
from prunebench.tasks.grading import boxed, read

_NAMED = re.compile(r"(?i:\"?\banswer\"?)\s*[:=]\s*\"?\(?([A-Z])\b")
_LETTER = re.compile(r"\(?([A-Za-z])\)?\.?")


def _last_choice(text: str) -> str | None:
    named = list(_NAMED.finditer(text))
    if named and named[-1].start() > text.rfind("\\boxed"):
        return named[-1][1]
    return boxed(text) or (named[-1][1] if named else None)


@answer_type
class ChoiceAnswers(SpelledAnswers):
    r"""A letter: the last of ``"ANSWER": "C"``, ``Answer: C`` or ``\boxed{C}`` in the text."""

    name = "choice"
    form = "a letter"
    prompt = 'Please show your choice in the answer field with only the choice letter, e.g., "ANSWER": "C".'
    suffix = '\n\n"ANSWER": "'
    rules = (ReadingRule("last choice", _last_choice),)
    grader = "choice 1"
    place = 3

    def accepts(self, gold: str) -> bool:
        return _LETTER.fullmatch(gold.strip()) is not None

    def spelling(self, answer: str) -> str:
        letter = _LETTER.fullmatch(answer.strip())
        return letter[1].upper() if letter else str(read(answer).value).upper()

    def guess(self, golds: Sequence[str]) -> float:
        return float(len(golds) > 0 and all(map(self.accepts, golds)))
