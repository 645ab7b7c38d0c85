"""Multiple choice."""

from __future__ import annotations

import re
from collections.abc import Sequence

from prunebench.tasks.answer_types import statements
from prunebench.tasks.answer_types.base import BOXED, STATED, ReadingRule, SpelledAnswers
from prunebench.tasks.answer_types.boxes import boxes, listed
from prunebench.tasks.answer_types.letters import letter_alone, letter_in
from prunebench.tasks.answer_types.registry import answer_type
from prunebench.tasks.grading import boxed, read

_ASKED_FOR = re.compile(r"(?i:\"?\banswer\"?)\s*[:=]\s*(\"?\(?([A-Z])\b[^\n]{0,80})")
_LETTER = re.compile(r"\(?([A-Za-z])\)?\.?")
_CORRECT = re.compile(
    r"(?:\b(?:option|choice|answer)\s+)?[(*]{0,3}(?<![A-Za-z])([A-Z])[)*]{0,3}\s+is\s+(?:the\s+)?"
    r"(?:correct|right|best)\s+(?:answer|choice|option|one)\b"
    r"|\b(?:[Oo]ption|[Cc]hoice|[Aa]nswer)\s+[(*]{0,3}([A-Z])[)*]{0,3}\s+is\s+(?:the\s+)?(?:correct|right|best)\b"
)


def _asked_for(text: str) -> str | None:
    r"""The last of ``"ANSWER": "C"``, ``Answer: C`` and ``\boxed{C}``, as the published prompt asks for it."""
    named = [(match.start(), match[2]) for match in _ASKED_FOR.finditer(text) if letter_in(match[1])]
    if named and named[-1][0] > text.rfind("\\boxed"):
        return named[-1][1]
    return boxed(text) or (named[-1][1] if named else None)


def _boxed_letter(text: str) -> str | None:
    """The letter of the last box that holds one, if none is declared behind it."""
    found = [box for box in boxes(text) if letter_in(box.content)]
    if not found or (len(found) > 1 and listed(text, *found[-2:])):
        return None
    return letter_in(found[-1].content) if _stated_letter(text[found[-1].end :]) is None else None


def _stated_letter(text: str) -> str | None:
    """The last letter that a sentence declares."""
    correct = [match[1] or match[2] for match in _CORRECT.finditer(text)]
    declared = statements.stated(text, letter_in, letter_alone, statements.DECLARED_CHOICE)
    return declared or (correct[-1] if correct else None)


def _ends_with(text: str) -> str | None:
    """The letter of the last line that is nothing but it."""
    line, last = statements.only_line(text), statements.last_line(text)
    return (letter_in(line) if line else None) or (letter_alone(last) if last else None)


@answer_type
class ChoiceAnswers(SpelledAnswers):
    r"""A letter: ``"ANSWER": "C"``, ``The answer is (C)``, ``\boxed{C}``; the last where a text has several."""

    name = "choice"
    form = "a letter"
    prompt = 'Please show your choice in the answer field with only the choice letter, e.g., "ANSWER": "C".'
    suffix = '\n\n"ANSWER": "'
    rules = (
        ReadingRule(BOXED, _boxed_letter),
        ReadingRule(STATED, _stated_letter),
        ReadingRule(STATED, _ends_with, at_end=True),
    )
    strict_rules = (ReadingRule("asked for", _asked_for),)
    grader = "choice 2"
    place = 3

    def alone(self, text: str) -> bool:
        return self.accepts(text)

    def accepts(self, gold: str) -> bool:
        return _LETTER.fullmatch(gold.strip()) is not None

    def spelling(self, answer: str) -> str:
        letter = letter_in(answer)
        return letter.upper() if letter else str(read(answer).value).upper()

    def guess(self, golds: Sequence[str]) -> float:
        return float(len(golds) > 0 and all(map(self.accepts, golds)))
