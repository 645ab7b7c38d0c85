"""What a task is: problems with a prompt and a gold answer, and how answers are read and graded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from prunebench.tasks.answer_types import AnswerType, FoundAnswer, answer_type_of, with_answer_type
from prunebench.tasks.answer_types.golds import accepted
from prunebench.tasks.errors import UserError
from prunebench.tasks.grading import Verdict
from prunebench.tasks.python_files import file_of, module_of

OWN_RULE = "the task's own"
"""The rule of answers that a task of one's own reads by itself."""


@dataclass(frozen=True)
class Problem:
    """One problem. ``id`` is stable and unique within its task; ``prompt`` is what the model is given."""

    id: str
    task: str
    prompt: str
    answer: str
    split: str


class Task(ABC):
    """A benchmark: subclasses say what the problems are.

    ``answer_type`` is the name of one, or ``module:function``. ``dataset`` and ``revision`` are None where
    they are made here or could not be verified; ``expected`` is how many problems the test split should have.
    ``origin`` is the file that a task of one's own came from. ``strict``: only an answer in the form that is asked for
    counts (a box; of choices what the published prompt says). ``last_number``: a complete path that states none has the
    last number of its last sentence.
    """

    name: str
    answer_type: str = "math"
    licence: str = "unknown"
    homepage: str = ""
    dataset: str | None = None
    revision: str | None = None
    expected: int | None = None
    train_only: bool = False
    origin: Path | None = None
    strict: bool = False
    last_number: bool = False
    endless: bool = False
    """Whether there is always one more problem, so that a number must be asked for."""
    self_check = ("\n\nIs the solution right so far? Answer Yes or No:", " Yes", " No")
    """A question put behind a prefix, and the words that answer it with yes and no."""
    step_end: str = "\n\n"

    @abstractmethod
    def problems(self, split: str, limit: int | None = None, seed: int = 0) -> list[Problem]:
        """``limit`` problems of a split, chosen by ``seed``; all without a limit. ValueError for an unknown split."""

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that it has, if only they are not empty."""
        return ("train", "validation", "test")

    def where(self, problem: str) -> str:
        """What a message calls the problem with this id: its place in the data where there is one."""
        return problem

    @property
    def remote(self) -> bool:
        """Whether its problems have to be fetched from a hub."""
        return False

    @cached_property
    def answers(self) -> AnswerType:
        """The answer type. Raises UserError for one that is not known."""
        return answer_type_of(self.answer_type, self.origin.parent if self.origin else None)

    @property
    def answer_suffix(self) -> str:
        """Forces a final answer when it is put behind a prefix."""
        return self.answers.suffix

    def found_in(self, text: str, complete: bool = True) -> FoundAnswer | None:
        """The final answer and its rule: of a path, or what a prefix that is not ``complete`` has stated so far."""
        if type(self).answer_of is not Task.answer_of:
            answer = self.answer_of(text)
            return None if answer is None else FoundAnswer(answer, OWN_RULE)
        last_number = self.last_number and complete
        return self.answers.find(text, strict=self.strict, last_number=last_number, complete=complete)

    def answer_of(self, text: str) -> str | None:
        """The final answer that a complete text states, or None; a task that has its own way says it here."""
        found = self.answers.find(text, strict=self.strict, last_number=self.last_number)
        return found.answer if found else None

    def grade(self, answer: str | None, gold: str) -> Verdict:
        """The verdict on a final answer; no answer is wrong."""
        return self.answers.grade(answer, gold)

    def verdict(self, problem: str, answer: str | None, gold: str) -> Verdict:
        """The verdict where it may depend on the problem (by its id), and not on the gold answer alone."""
        return self.grade(answer, gold)

    def several_right(self, gold: str) -> bool:
        """Whether answers that differ may be right, so that a vote counts them as one."""
        return len(accepted(gold)) > 1

    def classes(self, answers: Sequence[str | None]) -> list[int]:
        """Equivalence classes of answers, numbered by first appearance; -1 for None."""
        return self.answers.classes(answers)

    def remarks(self) -> list[str]:
        """Sentences that belong under every result: what was left out, what is not as expected."""
        return []

    def described(self) -> dict[str, Any] | None:
        """What a store keeps of a task so that its answers can be graded again; None where the name says it all."""
        return {"python": str(self.origin)} if self.origin else None

    def __reduce__(self) -> Any:
        """A task of one's own is loaded again in another process: its class lives in no package."""
        return super().__reduce__() if self.origin is None else self._made_by(task_in, self.origin)

    def _made_by(self, make: Callable[..., Task], *arguments: object) -> tuple[object, ...]:
        """What pickle makes it from; an answer type of one's own is loaded first."""
        return with_answer_type, (self.answer_type, file_of(type(self.answers).__module__), make, *arguments)


def task_in(file: Path) -> Task:
    """The task of the one Task class in a Python file. Raises UserError."""
    try:
        module = module_of(file)
    except FileNotFoundError as error:
        raise UserError(f"{file}: no such file; write one with: prunebench new task") from error
    except Exception as error:
        raise UserError(f"{file}: {type(error).__name__}: {error}") from error
    classes = [
        entry
        for entry in vars(module).values()
        if isinstance(entry, type) and issubclass(entry, Task) and entry.__module__ == module.__name__
    ]
    if len(classes) != 1:
        raise UserError(f"{file}: defines {len(classes)} subclasses of prunebench.tasks.task.Task; one is wanted")
    try:
        task: Task = classes[0]()
    except TypeError as error:
        raise UserError(f"{file}: {error}") from error
    if not isinstance(getattr(task, "name", None), str):
        raise UserError(f"{file}: the task has no name; write name = '...' in the class")
    task.origin = file.resolve()
    return task
