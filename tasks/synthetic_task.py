"""The synthetic families as tasks, at one level and with one share of confident errors each."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from prunebench.tasks.synthetic import FAMILIES
from prunebench.tasks.synthetic.family import BOX, CHECK, SPLITS, STEP_END, Family, Instance
from prunebench.tasks.task import Problem, Task

GROUPS = {
    "synthetic": (2, 0.0),
    "synthetic-25": (2, 0.25),
    "synthetic-50": (2, 0.50),
    "synthetic-75": (2, 0.75),
    "synthetic-100": (2, 1.0),
    "synthetic-long": (4, 0.0),
}
"""The names that stand for all families: at which level, and with which share of confident errors (in the name, %)."""


class SyntheticTask(Task):
    """Problems of one family, of one of :data:`GROUPS`; the split that owns an instance is fixed by its hash.

    The reasoner was trained on the split ``reasoner``; ``train``, ``validation`` and ``test`` it has never seen.
    """

    answer_type = "integer"
    strict = True
    licence = "Apache-2.0 (generated here)"
    homepage = "tasks/synthetic"
    endless = True
    self_check = (CHECK, "yes", "no")
    step_end = STEP_END

    def __init__(self, family: Family, group: str = "synthetic") -> None:
        self.family = family
        self.level, self.confident = GROUPS[group]
        self.name = f"{group}/{family.name}"

    def instances(self, split: str, seed: int = 0) -> Iterator[Instance]:
        """Distinct instances of a split, endlessly."""
        if split not in SPLITS:
            raise ValueError(f"task {self.name}: unknown split '{split}'; known: {', '.join(SPLITS)}")
        return self.family.draws(seed, self.level, split, self.confident)

    def problem(self, instance: Instance) -> Problem:
        prompt = " ".join((*instance.prompt, STEP_END))
        return Problem(instance.identity, self.name, prompt, str(self.family.answer(instance)), instance.split)

    def problems(self, split: str, limit: int | None = None, seed: int = 0) -> list[Problem]:
        if limit is None:
            raise ValueError(f"task {self.name} has no end: say how many problems are wanted")
        return [self.problem(instance) for instance in islice(self.instances(split, seed), limit)]

    @property
    def answer_suffix(self) -> str:
        return f"{STEP_END} {BOX}"


SYNTHETIC_TASKS = {
    task.name: task for group in GROUPS for family in FAMILIES.values() for task in [SyntheticTask(family, group)]
}
