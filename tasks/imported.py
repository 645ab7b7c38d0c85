"""The task of rollouts made elsewhere: it reads and grades answers, and has no problems of its own."""

from __future__ import annotations

from functools import cached_property

from prunebench.tasks.answer_types import AnswerType, answer_type_of, names
from prunebench.tasks.answer_types.base import SpelledAnswers
from prunebench.tasks.task import Problem, Task

MATH = "math"
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

    ``answer_type`` is the name of one; ``strict`` as in :class:`prunebench.tasks.task.Task`. Raises ValueError for
    another grading, and for a type beside ``string``, that is a function, or that is not known.
    """

    licence = "stated by the source"
    homepage = "stated by the source"

    def __init__(self, name: str, grading: str = "equivalence", answer_type: str = MATH, strict: bool = False) -> None:
        if grading not in GRADINGS:
            raise ValueError(f"grading '{grading}' is not known; choose {' or '.join(GRADINGS)}")
        if answer_type not in names():  # a store that somebody else made must not name a function that is then called
            raise ValueError(f"answer type '{answer_type}' of an import is none of {', '.join(names())}")
        if grading == "string" and answer_type != MATH:
            raise ValueError(f"answer type '{answer_type}' and grading 'string' are both given; leave one out")
        self.name, self.grading, self.answer_type, self.strict = name, grading, answer_type, strict

    @cached_property
    def answers(self) -> AnswerType:
        return answer_type_of(self.answer_type) if self.grading == "equivalence" else StringAnswers()

    def problems(self, split: str, limit: int | None = None, seed: int = 0) -> list[Problem]:
        raise ValueError(f"task {self.name} was imported: its problems are those of the imported store")
