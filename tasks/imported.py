"""The task of rollouts made elsewhere: it reads and grades answers, and has no problems of its own."""

from __future__ import annotations

from typing import ClassVar

from tasks.grading import Verdict, boxed, classes, equal
from tasks.task import AnswerType, Problem, Task

GRADINGS = ("equivalence", "string")
STRING_GRADER = "string 1"


class ImportedTask(Task):
    """Answers of an import. ``grading``: ``equivalence`` (what they mean) or ``string`` (their stripped text).

    Raises ValueError for another grading.
    """

    answer_type: ClassVar[AnswerType] = "math"
    licence: ClassVar[str] = "stated by the source"
    homepage: ClassVar[str] = "stated by the source"

    def __init__(self, name: str, grading: str = "equivalence") -> None:
        if grading not in GRADINGS:
            raise ValueError(f"grading '{grading}' is not known; choose {' or '.join(GRADINGS)}")
        self.name, self.grading = name, grading

    def problems(self, split: str, limit: int | None = None, seed: int = 0) -> list[Problem]:
        raise ValueError(f"task {self.name} was imported: its problems are those of the imported store")

    def answer_of(self, text: str) -> str | None:
        return boxed(text) or None  # an empty box states no answer

    def grade(self, answer: str | None, gold: str) -> Verdict:
        if answer is None:
            return Verdict(False, "no answer")
        if self.grading == "string":
            return Verdict(answer.strip() == gold.strip(), STRING_GRADER)
        return equal(answer, gold)

    def classes(self, answers: list[str | None]) -> list[int]:
        if self.grading == "equivalence":
            return classes(answers)
        numbers: dict[str, int] = {}
        return [-1 if answer is None else numbers.setdefault(answer.strip(), len(numbers)) for answer in answers]
