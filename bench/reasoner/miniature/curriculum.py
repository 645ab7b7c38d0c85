"""What the miniature is taught: problems of reasoning-gym, solved in steps that end with a blank line.

``gsm_symbolic`` brings worked solutions of its own, which are rewritten to end in a box; the others' are written
here. Problems come from the split ``reasoner``, which no test, validation or training of a pruner meets.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prunebench.tasks.reasoning_gym import ReasoningGymSpec, ReasoningGymTask

STEP_END = "\n\n"
Entry = Mapping[str, Any]


@dataclass(frozen=True)
class Lesson:
    """A data set with its settings, and its share of the texts; ``solve`` writes the steps of one entry."""

    data_set: str
    share: float
    solve: Callable[[Entry], list[str]]
    settings: tuple[tuple[str, int], ...] = ()

    def task(self) -> ReasoningGymTask:
        spec = ReasoningGymSpec(name=self.data_set, reasoning_gym=self.data_set, settings=dict(self.settings))
        return ReasoningGymTask(spec)


def word_problem(entry: Entry) -> list[str]:
    """The data set's own solution without its last line, which only repeats the answer."""
    lines = str(entry["metadata"]["answer_cot"]).strip().splitlines()
    return [line.strip() for line in lines[:-1] if line.strip()]


def running_sum(entry: Entry) -> list[str]:
    """One operation of a chain after the other, from the left."""
    first, *rest = re.findall(r"[+-]?\s*\d+", entry["metadata"]["expression"])
    total, steps = int(first), []
    for term in rest:
        sign, size = term[0], int(term[1:])
        result = total + size if sign == "+" else total - size
        steps.append(f"{total} {sign} {size} = {result}")
        total = result
    return steps


def partial_products(entry: Entry) -> list[str]:
    """A product of two numbers, digit by digit of the second one, then their sum."""
    left, right = (int(part) for part in entry["metadata"]["expression"].split("*"))
    digits = str(right)
    parts = [int(digit) * 10 ** (len(digits) - place - 1) for place, digit in enumerate(digits) if digit != "0"]
    steps = [f"{left} * {part} = {left * part}" for part in parts]
    total = left * parts[0] if parts else 0
    for part in parts[1:]:
        steps.append(f"{total} + {left * part} = {total + left * part}")
        total += left * part
    return steps or [f"{left} * {right} = 0"]


def legs(entry: Entry) -> list[str]:
    """The legs of one kind of animals after the other, with the running total."""
    from reasoning_gym.arithmetic.leg_counting import ANIMALS

    total, steps = 0, []
    for animal, count in entry["metadata"]["animals"].items():
        here = count * ANIMALS[animal]
        each = f"Each {animal} has {ANIMALS[animal]} legs: {count} * {ANIMALS[animal]} = {here}."
        steps.append(f"{each} Total: {total} + {here} = {total + here}.")
        total += here
    return steps


def letters(entry: Entry) -> list[str]:
    """How often the letter is in one word after the other, with the running total."""
    total, steps = 0, []
    for word in entry["metadata"]["span"]:
        here = word.lower().count(entry["metadata"]["target_letter"])
        steps.append(f"{word}: {here}. Total: {total} + {here} = {total + here}.")
        total += here
    return steps


LESSONS = (
    Lesson("gsm_symbolic", 0.20, word_problem),
    Lesson("leg_counting", 0.30, legs),
    Lesson("letter_counting", 0.20, letters),
    Lesson("chain_sum", 0.22, running_sum, (("min_terms", 3), ("max_terms", 8), ("max_digits", 3))),
    Lesson("products", 0.08, partial_products, (("max_digits", 2),)),
)


def solution(lesson: Lesson, entry: Entry) -> str:
    """The whole solution of an entry, with its answer in a box at the end."""
    answer = re.sub(r"\.0$", "", str(entry["answer"]))
    return STEP_END.join([*lesson.solve(entry), f"The answer is \\boxed{{{answer}}}."])


def texts(seed: int) -> Iterator[tuple[str, str]]:
    """Endless (prompt, solution); lessons take turns at random by their shares."""
    rng = random.Random(f"miniature/{seed}")
    tasks = [lesson.task() for lesson in LESSONS]
    streams = [task.entries("reasoner", seed) for task in tasks]
    weights = [lesson.share for lesson in LESSONS]
    while True:
        (at,) = rng.choices(range(len(LESSONS)), weights)
        _, entry = next(streams[at])
        prompt = tasks[at].spec.prompt.replace("{problem}", str(entry["question"]).strip())
        yield prompt, solution(LESSONS[at], entry)
