"""The task of rollouts made elsewhere: it reads and grades answers, and has no problems of its own."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from prunebench.tasks.answers import Answers, numbered
from prunebench.tasks.grading import Verdict
from prunebench.tasks.task import Problem, Task

GRADINGS = ("equivalence", "string")
STRING_GRADER = "string 1"


class _Strings(Answers):
    """Equal text, blanks around it aside."""

    def grade(self, answer: str | None, gold: str) -> Verdict:
        if answer is None:
            return Verdict(False, "no answer")
        return Verdict(answer.strip() == gold.strip(), STRING_GRADER)

    def classes(self, answers: Sequence[str | None]) -> list[int]:
        return numbered([None if answer is None else answer.strip() for answer in answers])


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
    def answers(self) -> Answers:
        return Answers() if self.grading == "equivalence" else _Strings()

    def problems(self, split: str, limit: int | None = None, seed: int = 0) -> list[Problem]:
        raise ValueError(f"task {self.name} was imported: its problems are those of the imported store")
