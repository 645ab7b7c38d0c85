"""What an answer type is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from prunebench.tasks.answer_types import statements
from prunebench.tasks.answer_types.boxes import joined_box
from prunebench.tasks.answer_types.golds import accepted, marked_gold
from prunebench.tasks.answer_types.thinking import behind_thinking
from prunebench.tasks.answer_types.values import last_number, text_in
from prunebench.tasks.grading import Verdict, boxed

NO_ANSWER = "no answer"
"""The grader of a path that states no answer."""


@dataclass(frozen=True)
class ReadingRule:
    """One way to find the final answer that a text states; ``read`` gives None where it finds none.

    ``at_end``: it looks at how a text ends, so that it is asked of complete paths only, not of their prefixes.
    """

    name: str
    read: Callable[[str], str | None]
    at_end: bool = False


@dataclass(frozen=True)
class FoundAnswer:
    """A final answer, and the name of the rule that found it."""

    answer: str
    rule: str


LAST_BOX = ReadingRule("boxed", lambda text: boxed(text) or None)
r"""The content of the last ``\boxed{...}`` as published settings read it: an empty box behind it states nothing."""
BOXED, STATED = "boxed", "stated"
"""What rules are called that find an answer in a box, or in words that declare it."""
LAST_NUMBER = ReadingRule("last number", last_number, at_end=True)
"""The last number of the last sentence; only for tasks that say ``last_number: true``."""


class AnswerType(ABC):
    r"""A kind of answer. Subclasses say what a gold answer may be and when two answers are equal.

    ``form``: a gold answer in words (``an integer``). ``prompt`` asks a model for an answer that can be read.
    ``suffix`` forces an answer when it is put behind a prefix. ``rules``: the first that finds an answer reads it;
    ``strict_rules``: those of tasks that are ``strict`` (default: the last box, or ``rules`` where a type has its own).
    ``numbers``: whether its answers can be numbers. ``place``: where the type stands in lists; those without one come
    last.
    """

    name: ClassVar[str]
    form: ClassVar[str] = "an answer"
    prompt: ClassVar[str] = "Please reason step by step, and put your final answer within \\boxed{}."
    suffix: ClassVar[str] = "\n\n**Final Answer** \\boxed{"
    rules: ClassVar[tuple[ReadingRule, ...]] = (
        ReadingRule(BOXED, joined_box),
        ReadingRule(STATED, lambda text: statements.stated(text, text_in, text_in)),
        ReadingRule(STATED, statements.only_line, at_end=True),
    )
    strict_rules: ClassVar[tuple[ReadingRule, ...]] = (LAST_BOX,)
    numbers: ClassVar[bool] = False
    place: ClassVar[int] = 100

    def __init_subclass__(cls, **others: object) -> None:
        super().__init_subclass__(**others)
        if "rules" in vars(cls) and "strict_rules" not in vars(cls):
            cls.strict_rules = cls.rules

    def find(
        self, text: str, *, strict: bool = False, last_number: bool = False, complete: bool = True
    ) -> FoundAnswer | None:
        """The final answer of a text, by the first rule that finds one; None where it states none.

        Unless ``strict``, an answer in closed thinking counts only where nothing stands behind that. A text that is
        not ``complete`` may go on in the middle of a number.
        """
        rules = self.strict_rules
        if not strict:
            rules = (*self.rules, LAST_NUMBER) if last_number else self.rules
            text = behind_thinking(text) + ("\n" if complete else "")
        for rule in rules:
            answer = rule.read(text) if complete or not rule.at_end else None
            if answer is not None:
                return FoundAnswer(answer, rule.name)
        return None

    def stated(self, text: str) -> str | None:
        """The final answer that a complete text states, or None."""
        found = self.find(text)
        return found.answer if found else None

    def alone(self, text: str) -> bool:
        """Whether ``text`` is an answer and nothing else: no text that states one."""
        return len(text) <= statements.LONGEST

    def gold_in(self, text: str) -> str | None:
        """The gold answer in a text: what it marks or declares, else itself; None for a solution that states none."""
        text = text.strip()
        declared = self.find(f"{text}\n", complete=False)
        answer = marked_gold(text) or (declared.answer if declared else None)
        return answer or (text if self.alone(text) else self.stated(text)) or None

    @abstractmethod
    def accepts(self, gold: str) -> bool:
        """Whether ``gold`` is an answer of this type."""

    def read_as(self, gold: str) -> str | None:
        """What a gold answer is taken for, where its writer may have meant something else."""
        return None

    @abstractmethod
    def equal(self, answer: str, gold: str) -> Verdict:
        """Whether a stated answer means ``gold``."""

    def grade(self, answer: str | None, gold: str) -> Verdict:
        """The verdict on a final answer; no answer is wrong. Of several accepted gold answers any one will do."""
        if answer is None:
            return Verdict(False, NO_ANSWER)
        verdicts = [self.equal(answer, one) for one in accepted(gold)]
        right = next((verdict for verdict in verdicts if verdict.correct), None)
        ungraded = next((verdict for verdict in verdicts if verdict.correct is None), None)
        return right or ungraded or verdicts[0]

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
