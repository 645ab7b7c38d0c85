"""Linear recurrences x_n = a x_(n-1) + b x_(n-2) mod m, with a and b hidden behind two expressions."""

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
    last_number,
    numeral,
    worded,
)


class Recurrence(Family):
    """Strategies: reduce each product at once (``early``) or only the sum (``late``); a decides which is safer."""

    name = "recurrence"
    strategies = ("early", "late")
    LENGTHS: ClassVar[dict[int, tuple[int, ...]]] = {1: (4, 6), 2: (10, 12), 3: (14, 17), 4: (20, 44)}
    SAFE_RATE, RISKY_RATE = 0.008, 0.05

    def instance(self, rng: random.Random, level: int, confident: float = 0.0) -> Instance:
        modulus = rng.choice((7, 11, 13))
        a, b = Mixed.draw(rng), Difference.draw(rng)
        x0, x1 = rng.randrange(1, modulus), rng.randrange(1, modulus)
        target = rng.randint(*self.LENGTHS[level])
        a, b = worded(rng, confident, a, b)
        prompt = (
            self.name, "mod", numeral(modulus), ":", *a.given("a"), *b.given("b"),
            "x", "0", "=", numeral(x0), ";", "x", "1", "=", numeral(x1), ";", "find", "x", numeral(target),
        )  # fmt: skip
        facts = {"modulus": modulus, "a": a, "b": b, "target": target}
        return Instance(self.name, level, prompt, {"n": 1, "before": x0, "now": x1}, facts)

    def due(self, instance: Instance, state: State) -> DueStep | None:
        modulus, target = int(str(instance.facts["modulus"])), int(str(instance.facts["target"]))
        a, b = instance.facts["a"], instance.facts["b"]
        assert isinstance(a, Mixed) and isinstance(b, Difference)
        if "a" not in state:
            return a.step("a", modulus)
        if "b" not in state:
            return b.step("b", modulus)
        if state["n"] == target:
            return None
        late = state["plan"] == 1
        large = state["a"] > modulus // 2
        rate = CARE[instance.level] * (self.RISKY_RATE if late == large else self.SAFE_RATE)
        right = self._outcome(state, modulus, late, state["before"], 0)
        slips = (
            (rate * 0.5, self._outcome(state, modulus, late, state["now"], 0)),
            (rate * 0.5, self._outcome(state, modulus, late, state["before"], 1)),
        )
        return DueStep(("x", numeral(state["n"] + 1)), right, slips)

    def _outcome(self, state: State, modulus: int, late: bool, before: int, off: int) -> StepOutcome:
        n, a, b, now = state["n"] + 1, state["a"], state["b"], state["now"]
        first, second = a * now, b * before
        head: tuple[str, ...] = ("x", numeral(n), "=", numeral(a), "*", numeral(now), "=", numeral(first))
        if not late:
            head = (*head, "=", numeral(first % modulus))
        middle: tuple[str, ...] = (";", numeral(b), "*", numeral(before), "=", numeral(second))
        if not late:
            middle = (*middle, "=", numeral(second % modulus))
            first, second = first % modulus, second % modulus
        total = first + second + off
        value = total % modulus
        tail = (";", numeral(first), "+", numeral(second), "=", numeral(total), "=", numeral(value))
        return StepOutcome((*head, *middle, *tail), {"n": n, "before": now, "now": value})

    def result(self, instance: Instance, state: State) -> int:
        return state["now"]

    def read(self, instance: Instance, state: State, step: DueStep, tokens: Sequence[str]) -> Mapping[str, int] | None:
        value = last_number(tokens)
        if value is None:
            return None
        if step.label[1] == "=":
            return {step.label[0]: value}
        return {"n": state["n"] + 1, "before": state["now"], "now": value}
