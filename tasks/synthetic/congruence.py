"""Linear congruences a x = b mod m, solved by walking through the multiples of a from below or from above."""

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


class Congruence(Family):
    """Strategies: try x = 1, 2, ... (``up``) or x = m-1, m-2, ... (``down``); a decides which one is safer."""

    name = "congruence"
    strategies = ("up", "down")
    MODULI: ClassVar[dict[int, tuple[int, ...]]] = {1: (11, 13), 2: (29, 31, 37), 3: (41, 43), 4: (53, 59, 61)}
    SAFE_RATE, RISKY_RATE = 0.004, 0.025

    def instance(self, rng: random.Random, level: int, confident: float = 0.0) -> Instance:
        while True:
            modulus = rng.choice(self.MODULI[level])
            a, b = Difference.draw(rng), Mixed.draw(rng)
            target = b.value(b.parentheses) % modulus
            if target == 0 or b.value(not b.parentheses) % modulus == 0:
                continue
            x = target * pow(a.value() % modulus, -1, modulus) % modulus
            if modulus // 3 < x < modulus - modulus // 3:
                break
        a, b = worded(rng, confident, a, b)
        prompt = (
            self.name, "mod", numeral(modulus), ":", *a.given("a"), *b.given("b"),
            "a", "*", "x", "=", "b", ";", "find", "x",
        )  # fmt: skip
        return Instance(self.name, level, prompt, {}, {"modulus": modulus, "a": a, "b": b})

    def due(self, instance: Instance, state: State) -> DueStep | None:
        modulus = int(str(instance.facts["modulus"]))
        a, b = instance.facts["a"], instance.facts["b"]
        assert isinstance(a, Difference) and isinstance(b, Mixed)
        if "a" not in state:
            return a.step("a", modulus)
        if "b" not in state:
            return b.step("b", modulus)
        if state.get("solved", 0) or state.get("tries", 0) >= modulus:
            return None
        return self._try(state, modulus, CARE[instance.level])

    def _try(self, state: State, modulus: int, care: float) -> DueStep:
        down = state["plan"] == 1
        x = state.get("x", 0)
        following = (x - 1 if down else x + 1) % modulus
        value = state.get("value", 0)
        rate = care * (self.RISKY_RATE if down == (state["a"] <= modulus // 2) else self.SAFE_RATE)
        label = ("x", numeral(following))

        def outcome(off: int) -> StepOutcome:
            total = (value - state["a"] if down else value + state["a"]) + off
            reduced = total % modulus
            hit = reduced == state["b"]
            sign = "-" if down else "+"
            sum_ = (numeral(value), sign, numeral(state["a"]), "=", numeral(total), "=", numeral(reduced))
            tokens = (*label, ":", *sum_, ";", numeral(state["b"]))
            updates = {"x": following, "value": reduced, "solved": int(hit), "tries": state.get("tries", 0) + 1}
            return StepOutcome((*tokens, "yes" if hit else "no"), updates)

        return DueStep(label, outcome(0), ((rate, outcome(1)),))

    def result(self, instance: Instance, state: State) -> int:
        return state["x"]

    def read(self, instance: Instance, state: State, step: DueStep, tokens: Sequence[str]) -> Mapping[str, int] | None:
        numbers = [int(token) for token in tokens if token.lstrip("-").isdigit()]
        if not numbers:
            return None
        if step.label[1] == "=":
            return {step.label[0]: numbers[-1]}
        if len(numbers) < 3:
            return None
        solved = int(tokens[-1] == "yes")
        return {"x": int(step.label[1]), "value": numbers[-2], "solved": solved, "tries": state.get("tries", 0) + 1}
