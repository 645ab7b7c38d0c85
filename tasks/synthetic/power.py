"""Modular powers g^e mod m, with g and e hidden behind expressions."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import ClassVar

from prunebench.tasks.synthetic.family import (
    CARE,
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


class Power(Family):
    """Strategies: multiply again and again (``repeat``) or square and multiply (``square``); g decides the safer."""

    name = "power"
    strategies = ("repeat", "square")
    first_strategy_rate = 0.6
    EXPONENTS: ClassVar[dict[int, tuple[int, ...]]] = {1: (8, 14), 2: (20, 31), 3: (32, 42), 4: (44, 84)}
    REPEAT_RATES, SQUARE_RATES = (0.004, 0.022), (0.10, 0.012)

    def instance(self, rng: random.Random, level: int, confident: float = 0.0) -> Instance:
        modulus = rng.choice((7, 11, 13))
        low, high = self.EXPONENTS[level]
        while True:
            g, e = Mixed.draw(rng), Mixed.draw(rng)
            # What holds for the right reading holds for the wrong one: the number must not tell which it is.
            bases, exponents = ({mixed.value(True), mixed.value(False)} for mixed in (g, e))
            if all(base % modulus > 1 for base in bases) and low <= min(exponents) and max(exponents) <= high:
                break
        g, e = worded(rng, confident, g, e)
        prompt = (
            self.name, "mod", numeral(modulus), ":", *g.given("g"), *e.given("e"),
            "find", "g", "^", "e",
        )  # fmt: skip
        return Instance(self.name, level, prompt, {}, {"modulus": modulus, "g": g, "e": e})

    def due(self, instance: Instance, state: State) -> DueStep | None:
        modulus = int(str(instance.facts["modulus"]))
        g, e = instance.facts["g"], instance.facts["e"]
        assert isinstance(g, Mixed) and isinstance(e, Mixed)
        if "g" not in state:
            return g.step("g", modulus)
        if "e" not in state:
            return e.step("e", None)
        walk = self._square if state["plan"] == 1 else self._repeat
        return walk(state, modulus, CARE[instance.level])

    def _repeat(self, state: State, modulus: int, care: float) -> DueStep | None:
        n, g = state.get("n", 0), state["g"]
        if n == 0:
            return DueStep(("y", "1"), StepOutcome(("y", "1", "=", numeral(g)), {"n": 1, "y": g}))
        if n >= state["e"]:
            return None
        rate = care * self.REPEAT_RATES[g > modulus // 2]
        label = ("y", numeral(n + 1))

        def outcome(off: int) -> StepOutcome:
            product = state["y"] * g + off
            value = product % modulus
            tokens = (*label, "=", numeral(state["y"]), "*", numeral(g), "=", numeral(product), "=", numeral(value))
            return StepOutcome(tokens, {"n": n + 1, "y": value})

        return DueStep(label, outcome(0), ((rate, outcome(1)),))

    def _square(self, state: State, modulus: int, care: float) -> DueStep | None:
        g, bits = state["g"], bin(state["e"])[2:]
        if "n" not in state:
            return DueStep(("bits",), StepOutcome(("bits", numeral(state["e"]), "=", *bits), {"n": 1, "y": g}))
        n = state["n"]
        if n >= len(bits):
            return None
        rate = care * self.SQUARE_RATES[g > modulus // 2]
        label = ("bit", numeral(n), bits[n])

        def outcome(off: int) -> StepOutcome:
            square = state["y"] * state["y"] + off
            value = square % modulus
            tokens: tuple[str, ...] = (
                *label,
                ":",
                numeral(state["y"]),
                "*",
                numeral(state["y"]),
                "=",
                numeral(square),
                "=",
                numeral(value),
            )
            if bits[n] == "1":
                product = value * g
                tokens = (
                    *tokens,
                    ";",
                    numeral(value),
                    "*",
                    numeral(g),
                    "=",
                    numeral(product),
                    "=",
                    numeral(product % modulus),
                )
                value = product % modulus
            return StepOutcome(tokens, {"n": n + 1, "y": value})

        return DueStep(label, outcome(0), ((rate, outcome(1)),))

    def result(self, instance: Instance, state: State) -> int:
        return state["y"]

    def read(self, instance: Instance, state: State, step: DueStep, tokens: Sequence[str]) -> Mapping[str, int] | None:
        value = last_number(tokens)
        if value is None:
            return None
        if step.label[1:] == ("=",):
            return {step.label[0]: value}
        if step.label == ("bits",):
            return dict(step.right.updates)
        return {"n": state.get("n", 0) + 1, "y": value}
