"""Straight-line programs over two registers p and q mod m; one of the strategies calls a calculator."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import ClassVar

from prunebench.tasks.synthetic.family import (
    CARE,
    Difference,
    DueStep,
    Family,
    Instance,
    Mixed,
    State,
    StepOutcome,
    numeral,
    worded,
)

CALL = ("```python", "\n", "print", "(")
RETURN = (")", "\n", "```", "\n", "```output", "\n")


class Program(Family):
    """Strategies: call the calculator (``tool``) or do the sums in the head (``mental``); q decides the safer."""

    name = "program"
    strategies = ("tool", "mental")
    LENGTHS: ClassVar[dict[int, tuple[int, ...]]] = {1: (3, 5), 2: (8, 10), 3: (12, 14), 4: (18, 40)}
    SAFE_RATE, RISKY_RATE = 0.01, 0.055

    def instance(self, rng: random.Random, level: int, confident: float = 0.0) -> Instance:
        modulus = rng.choice((7, 11, 13))
        p, q = Mixed.draw(rng), Difference.draw(rng)
        lines = []
        for _ in range(rng.randint(*self.LENGTHS[level])):
            register = rng.choice("pq")
            other = "q" if register == "p" else "p"
            operand = other if rng.random() < 0.6 else numeral(rng.randint(2, 6))
            lines.append((register, rng.choice("+*+"), operand))
        lines[-1] = ("p", "+", "q")
        p, q = worded(rng, confident, p, q)
        prompt = [self.name, "mod", numeral(modulus), ":", *p.given("p"), *q.given("q")]
        for number, (register, operator, operand) in enumerate(lines, 1):
            prompt += ["do", numeral(number), register, "=", register, operator, operand, ";"]
        prompt += ["find", "p"]
        facts = {"modulus": modulus, "p": p, "q": q, "lines": tuple(lines)}
        return Instance(self.name, level, tuple(prompt), {"line": 0}, facts)

    def due(self, instance: Instance, state: State) -> DueStep | None:
        modulus = int(str(instance.facts["modulus"]))
        p, q, lines = instance.facts["p"], instance.facts["q"], instance.facts["lines"]
        assert isinstance(p, Mixed) and isinstance(q, Difference) and isinstance(lines, tuple)
        if "p" not in state:
            return p.step("p", modulus)
        if "q" not in state:
            return q.step("q", modulus)
        if state["line"] == len(lines):
            return None
        register, operator, operand = lines[state["line"]]
        mental = state["plan"] == 1
        risky = mental == (state["q"] > modulus // 2)
        rate = CARE[instance.level] * (self.RISKY_RATE if risky else self.SAFE_RATE)
        label = ("do", numeral(state["line"] + 1))

        def outcome(left: int, off: int) -> StepOutcome:
            right = state[operand] if operand in ("p", "q") else int(operand)
            total = (left * right if operator == "*" else left + right) + off
            value = total % modulus
            after = {"p": state["p"], "q": state["q"], register: value, "line": state["line"] + 1}
            sum_ = (numeral(left), operator, numeral(right))
            if mental:
                written: tuple[str, ...] = (*sum_, "=", numeral(total), "=", numeral(value))
            else:
                written = (*CALL, "(", *sum_, ")", "%", numeral(modulus), *RETURN, numeral(value), "\n", "```")
            tail = (";", "p", numeral(after["p"]), "q", numeral(after["q"]))
            return StepOutcome((*label, register, ":", *written, *tail), after)

        swapped = outcome(state["q" if register == "p" else "p"], 0)
        slip = outcome(state[register], 1) if mental else swapped
        return DueStep(label, outcome(state[register], 0), ((rate, slip),))

    def result(self, instance: Instance, state: State) -> int:
        return state["p"]

    def read(self, instance: Instance, state: State, step: DueStep, tokens: Sequence[str]) -> Mapping[str, int] | None:
        numbers = [int(token) for token in tokens if token.lstrip("-").isdigit()]
        if step.label[1] == "=":
            return {step.label[0]: numbers[-1]} if numbers else None
        if len(numbers) < 2 or tuple(tokens[-4::2]) != ("p", "q"):
            return None
        return {"p": numbers[-2], "q": numbers[-1], "line": state["line"] + 1}
