"""What a task is: problems with a prompt and a gold answer, and how answers are read and graded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

from tasks.grading import Verdict

AnswerType = Literal["integer", "math", "choice", "text"]


@dataclass(frozen=True)
class Problem:
    """One problem. ``id`` is stable and unique within its task; ``prompt`` is what the model is given."""

    id: str
    task: str
    prompt: str
    answer: str
    split: str


class Task(ABC):
    """A benchmark. ``dataset`` and ``revision`` are None where they are made here or could not be verified."""

    name: str
    answer_type: ClassVar[AnswerType]
    licence: ClassVar[str]
    homepage: ClassVar[str]
    dataset: ClassVar[str | None] = None
    revision: ClassVar[str | None] = None
    train_only: ClassVar[bool] = False
    answer_suffix: ClassVar[str] = "\n\n**Final Answer** \\boxed{"
    """Forces a final answer when it is put behind a prefix."""
    self_check: ClassVar[tuple[str, str, str]] = ("\n\nIs the solution right so far? Answer Yes or No:", " Yes", " No")
    """A question put behind a prefix, and the words that answer it with yes and no."""
    step_end: ClassVar[str] = "\n\n"

    @abstractmethod
    def problems(self, split: str, limit: int | None = None, seed: int = 0) -> list[Problem]:
        """The first ``limit`` problems of a split, in an order fixed by ``seed``. ValueError for an unknown split."""

    @abstractmethod
    def answer_of(self, text: str) -> str | None:
        """The final answer that a text states, or None."""

    @abstractmethod
    def grade(self, answer: str | None, gold: str) -> Verdict:
        """The verdict on a final answer; no answer is wrong."""

    @abstractmethod
    def classes(self, answers: list[str | None]) -> list[int]:
        """Equivalence classes of answers, numbered by first appearance; -1 for None."""
