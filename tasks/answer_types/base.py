"""What an answer type is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from prunebench.tasks.grading import Verdict, boxed

NO_ANSWER = "no answer"
"""The grader of a path that states no answer."""


@dataclass(frozen=True)
class ReadingRule:
    """One way to find the final answer that a text states; ``read`` gives None where it finds none."""

    name: str
    read: Callable[[str], str | None]


LAST_BOX = ReadingRule("last box", lambda text: boxed(text) or None)
r"""The content of the last ``\boxed{...}``; an empty box states nothing."""


class AnswerType(ABC):
    r"""A kind of answer. Subclasses say what a gold answer may be and when two answers are equal.

    ``form``: a gold answer in words (``an integer``). ``prompt`` asks a model for an answer that can be read.
    ``suffix`` forces an answer when it is put behind a prefix. ``rules``: the first that finds an answer reads it.
    ``place``: where the type stands in lists; those without one come last.
    """

    name: ClassVar[str]
    form: ClassVar[str] = "an answer"
    prompt: ClassVar[str] = "Please reason step by step, and put your final answer within \\boxed{}."
    suffix: ClassVar[str] = "\n\n**Final Answer** \\boxed{"
    rules: ClassVar[tuple[ReadingRule, ...]] = (LAST_BOX,)
    place: ClassVar[int] = 100

    def stated(self, text: str) -> str | None:
        """The final answer that a text states, or None."""
        answers = (rule.read(text) for rule in self.rules)
        return next((answer for answer in answers if answer is not None), None)

    @abstractmethod
    def accepts(self, gold: str) -> bool:
        """Whether ``gold`` is an answer of this type."""

    @abstractmethod
    def equal(self, answer: str, gold: str) -> Verdict:
        """Whether a stated answer means ``gold``."""

    def grade(self, answer: str | None, gold: str) -> Verdict:
        """The verdict on a final answer; no answer is wrong."""
        return Verdict(False, NO_ANSWER) if answer is None else self.equal(answer, gold)

    def classes(self, answers: Sequence[str | None]) -> list[int]:
        """Equivalence classes, numbered by first appearance; -1 for None. An answer is held against each class."""
        firsts: list[str] = []
        numbers = []
        for answer in answers:
            if answer is None:
                numbers.append(-1)
                continue
            equal = (number for number, first in enumerate(firsts) if self.equal(answer, first).correct)
            numbers.append(next(equal, len(firsts)))
            if numbers[-1] == len(firsts):
                firsts.append(answer)
        return numbers

    def guess(self, golds: Sequence[str]) -> float:
        """How surely gold answers without a named type are of this one: 1 for certain, 0 (the default) for never."""
        return 0.0


class SpelledAnswers(AnswerType):
    """Answers that are equal when they are spelled alike; ``grader`` names the spelling, with its version."""

    grader: ClassVar[str]

    @abstractmethod
    def spelling(self, answer: str) -> str:
        """The one spelling of all equal answers."""

    def equal(self, answer: str, gold: str) -> Verdict:
        return Verdict(self.spelling(answer) == self.spelling(gold), self.grader)

    def classes(self, answers: Sequence[str | None]) -> list[int]:
        numbers: dict[str, int] = {}
        return [-1 if answer is None else numbers.setdefault(self.spelling(answer), len(numbers)) for answer in answers]
