"""The task of rollouts made elsewhere: it reads and grades answers, and has no problems of its own."""

from __future__ import annotations

from functools import cached_property

from prunebench.tasks.answer_types import AnswerType, answer_type_of
from prunebench.tasks.answer_types.base import SpelledAnswers
from prunebench.tasks.task import Problem, Task

GRADINGS = ("equivalence", "string")


class StringAnswers(SpelledAnswers):
    """Equal text, blanks around it aside."""

    grader = "string 1"

    def accepts(self, gold: str) -> bool:
        return bool(gold.strip())

    def spelling(self, answer: str) -> str:
        return answer.strip()


class ImportedTask(Task):
    """Answers of an import. ``grading``: ``equivalence`` (what they mean) or ``string`` (their stripped text).

    Raises ValueError for another grading.
    """

    licence = "stated by the source"
    homepage = "stated by the source"

    def __init__(self, name: str, grading: str = "equivalence") -> None:
        if grading not in GRADINGS:
            raise ValueError(f"grading '{grading}' is not known; choose {' or '.join(GRADINGS)}")
        self.name, self.grading = name, grading

    @cached_property
    def answers(self) -> AnswerType:
        return answer_type_of("math") if self.grading == "equivalence" else StringAnswers()

    def problems(self, split: str, limit: int | None = None, seed: int = 0) -> list[Problem]:
        raise ValueError(f"task {self.name} was imported: its problems are those of the imported store")
