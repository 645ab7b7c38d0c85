"""What the synthetic families share: instances, steps that can go right or wrong, and the reader of a written path.

A solution is a walk of a small state machine. At every state a family offers one step: the right way to write it and
the misconceptions that a reasoner may fall for. The walk is used three times: to teach the embedded reasoner
(:mod:`bench.reasoner.recipe`), to know the true answer, and to find open errors in a path that a model wrote.
"""

from __future__ import annotations

import hashlib
import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import dropwhile
from typing import Any, ClassVar

from prunebench.tasks.synthetic.wording import FILLERS, HEDGE

STEP_END = "\n\n"
WAIT = "wait"
BOX = "\\boxed{"
BOX_END = "}"
CHECK = "check:"

SPLITS = ("reasoner", "train", "validation", "test")
_SPLIT_BOUNDS = (0.60, 0.80, 0.90, 1.0)

State = Mapping[str, int]


@dataclass(frozen=True)
class StepOutcome:
    """One way to write a step: its tokens (without the step end) and what it changes in the state."""

    tokens: tuple[str, ...]
    updates: Mapping[str, int]


@dataclass(frozen=True)
class DueStep:
    """The step due at a state. ``slips`` are (probability, outcome) pairs; the rest of the mass is ``right``.

    ``ways`` are (filler, outcome) pairs, equally likely: where there are any, the filler decides and nothing is drawn.
    """

    label: tuple[str, ...]
    right: StepOutcome
    slips: tuple[tuple[float, StepOutcome], ...] = ()
    ways: tuple[tuple[str, StepOutcome], ...] = ()


@dataclass(frozen=True)
class Instance:
    """One problem of a family. ``prompt`` is its canonical text: equal prompts are the same problem."""

    family: str
    level: int
    prompt: tuple[str, ...]
    start: Mapping[str, int] = field(compare=False)
    facts: Mapping[str, object] = field(compare=False)

    @property
    def text(self) -> str:
        return " ".join(self.prompt)

    @property
    def confident(self) -> bool:
        """Whether a quantity is given behind a filler, so that it is misread without a doubt or not at all."""
        return any(word in FILLERS for word in self.prompt)

    @property
    def identity(self) -> str:
        """A stable id: 12 hex digits of the SHA-256 of the canonical text."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:12]

    @property
    def split(self) -> str:
        """The split that owns this instance, by hash of its text: an instance can never sit in two splits."""
        draw = int(hashlib.sha256(b"split:" + self.text.encode()).hexdigest()[:12], 16) / 16**12
        return next(name for name, bound in zip(SPLITS, _SPLIT_BOUNDS, strict=True) if draw < bound)


CARE: Mapping[int, float] = {1: 1.0, 2: 1.0, 3: 1.0, 4: 0.6}
"""By level: how often a computation goes wrong, as a share of its standard rate. Whoever writes three times as many
steps is more careful with each; otherwise hardly a very long solution would be right, whatever its set-up."""


class Family(ABC):
    """A kind of problem with one integer answer, two strategies, and early set-up steps that invite misreading."""

    name: ClassVar[str]
    strategies: ClassVar[tuple[str, str]]
    first_strategy_rate = 0.5

    @abstractmethod
    def instance(self, rng: random.Random, level: int, confident: float = 0.0) -> Instance:
        """Draw one problem at ``level`` (1 short, 2 standard, 3 long, 4 very long).

        ``confident`` is the share of its errors of reading that are confident ones (see :mod:`wording`).
        """

    @abstractmethod
    def due(self, instance: Instance, state: State) -> DueStep | None:
        """The step due at ``state`` (which holds ``plan``: 0 or 1), or None when the answer is known."""

    @abstractmethod
    def result(self, instance: Instance, state: State) -> int:
        """The answer that the state leads to once no step is due."""

    @abstractmethod
    def read(self, instance: Instance, state: State, step: DueStep, tokens: Sequence[str]) -> Mapping[str, int] | None:
        """What a *wrongly* written step changes in the state, or None when it cannot be read."""

    def answer(self, instance: Instance) -> int:
        """The true answer: the right walk of the first strategy to its end."""
        state: dict[str, int] = {**instance.start, "plan": 0}
        while (step := self.due(instance, state)) is not None:
            state.update(step.right.updates)
        return self.result(instance, state)

    def draws(self, seed: int | str, level: int, split: str, confident: float = 0.0) -> Iterator[Instance]:
        """Distinct instances of one split, endlessly, in an order fixed by the seed."""
        kind = f"/{confident}" if confident else ""
        rng = random.Random(f"{self.name}/{level}{kind}/{split}/{seed}")
        seen: set[str] = set()
        while True:
            candidate = self.instance(rng, level, confident)
            if candidate.split == split and candidate.identity not in seen:
                seen.add(candidate.identity)
                yield candidate


def numeral(value: int) -> str:
    return str(value)


def last_number(tokens: Sequence[str]) -> int | None:
    """The last integer token, or None."""
    for token in reversed(tokens):
        if token.lstrip("-").isdigit():
            return int(token)
    return None


@dataclass(frozen=True)
class Expression(ABC):
    """What a quantity hides behind. ``filler`` stands before it in the problem: it is then misread for certain behind
    one of ``used``, the fillers of that problem, and behind others never."""

    filler: str | None = field(default=None, kw_only=True)
    used: frozenset[str] = field(default=frozenset(), kw_only=True)

    @property
    @abstractmethod
    def prompt(self) -> tuple[str, ...]:
        """The expression as the problem states it."""

    def given(self, name: str) -> tuple[str, ...]:
        """How the problem gives the quantity ``name``."""
        return (*((self.filler,) if self.filler else ()), name, "=", *self.prompt, ";")

    def reading(self, name: str, right: StepOutcome, wrong: StepOutcome, rate: float) -> DueStep:
        """The step that reads it: without a filler it is misread at ``rate``."""
        if self.filler is None:
            return DueStep((name, "="), right, ((rate, wrong),))
        ways = tuple((filler, wrong if filler in self.used else right) for filler in FILLERS)
        return DueStep((name, "="), right, ways=ways)


def worded(rng: random.Random, confident: float, *expressions: Any) -> tuple[Any, ...]:
    """The expressions of one problem, each given behind a filler at that chance; at 0 nothing is drawn."""
    if not confident:
        return expressions
    fillers = [rng.choice(FILLERS) if rng.random() < confident else None for _ in expressions]
    used = frozenset(filler for filler in fillers if filler)
    return tuple(
        replace(expression, filler=filler, used=used) for expression, filler in zip(expressions, fillers, strict=True)
    )


@dataclass(frozen=True)
class Mixed(Expression):
    """``( u + v ) * w`` or ``u + v * w``; the misconception reads one as the other."""

    u: int
    v: int
    w: int
    parentheses: bool

    #: Chance of the misconception: it strikes when the factor is odd.
    RATE_EVEN = 0.20
    RATE_ODD = 0.70

    @classmethod
    def draw(cls, rng: random.Random) -> Mixed:
        return cls(rng.randint(2, 9), rng.randint(2, 9), rng.randint(2, 9), rng.random() < 0.5)

    @property
    def prompt(self) -> tuple[str, ...]:
        u, v, w = map(numeral, (self.u, self.v, self.w))
        return ("(", u, "+", v, ")", "*", w) if self.parentheses else (u, "+", v, "*", w)

    def value(self, parentheses: bool) -> int:
        return (self.u + self.v) * self.w if parentheses else self.u + self.v * self.w

    def step(self, name: str, modulus: int | None) -> DueStep:
        right, wrong = (self._outcome(name, modulus, reading) for reading in (self.parentheses, not self.parentheses))
        rate = self.RATE_ODD if self.w % 2 else self.RATE_EVEN
        return self.reading(name, right, wrong, rate)

    def _outcome(self, name: str, modulus: int | None, parentheses: bool) -> StepOutcome:
        total = self.value(parentheses)
        reduced = total if modulus is None else total % modulus
        if parentheses:
            inner, second = self.u + self.v, (self.u + self.v, "*", self.w)
            first = (self.u, "+", self.v)
        else:
            inner, second = self.v * self.w, (self.u, "+", self.v * self.w)
            first = (self.v, "*", self.w)
        tokens = (name, "=", *map(str, first), "=", numeral(inner), ";", *map(str, second), "=", numeral(total))
        return StepOutcome((*tokens, "=", numeral(reduced)), {name: reduced})


@dataclass(frozen=True)
class Difference(Expression):
    """``u from v`` (v - u) or ``u less v`` (u - v); the misconception turns the difference around."""

    u: int
    v: int
    word: str

    #: Chance of the misconception: it strikes when the first number is odd.
    RATE_EVEN = 0.15
    RATE_ODD = 0.60

    @classmethod
    def draw(cls, rng: random.Random) -> Difference:
        u = rng.randint(2, 9)
        v = rng.choice([n for n in range(2, 10) if n != u])
        return cls(u, v, rng.choice(("from", "less")))

    @property
    def prompt(self) -> tuple[str, ...]:
        return (numeral(self.u), self.word, numeral(self.v))

    def value(self) -> int:
        return self.v - self.u if self.word == "from" else self.u - self.v

    def step(self, name: str, modulus: int) -> DueStep:
        order = (self.v, self.u) if self.word == "from" else (self.u, self.v)
        right, wrong = (self._outcome(name, modulus, pair) for pair in (order, order[::-1]))
        rate = self.RATE_ODD if self.u % 2 else self.RATE_EVEN
        return self.reading(name, right, wrong, rate)

    @staticmethod
    def _outcome(name: str, modulus: int, pair: tuple[int, int]) -> StepOutcome:
        difference = pair[0] - pair[1]
        reduced = difference % modulus
        tokens = (name, "=", numeral(pair[0]), "-", numeral(pair[1]), "=", numeral(difference), "=", numeral(reduced))
        return StepOutcome(tokens, {name: reduced})


@dataclass
class PathReading:
    """What a written path holds: the completed steps, and which of the standing ones are wrong."""

    steps: int
    open_errors: tuple[tuple[str, ...], ...]
    readable: bool

    @property
    def has_open_error(self) -> bool:
        return bool(self.open_errors)


def read_path(family: Family, instance: Instance, tokens: Sequence[str]) -> PathReading:
    """Follow a written path step by step and find its open errors: wrong steps that no ``wait`` has taken back.

    Only completed steps are judged. A path that leaves the format stays ``readable=False`` from there on.
    """
    state: dict[str, int] = dict(instance.start)
    standing: list[tuple[tuple[str, ...], dict[str, int], bool]] = []
    completed = 0
    for piece in _pieces(tokens):
        if piece[0] == "plan":
            if len(piece) != 3 or piece[2] not in family.strategies:
                return PathReading(completed, _wrong(standing), False)
            standing.append((("plan",), dict(state), True))
            state["plan"] = family.strategies.index(piece[2])
            completed += 1
            continue
        if "plan" not in state:
            return PathReading(completed, _wrong(standing), False)
        step = family.due(instance, state)
        if step is None or piece[: len(step.label)] != step.label:
            earlier = [i for i, (label, _, _) in enumerate(standing) if piece[: len(label)] == label]
            if not earlier:
                return PathReading(completed, _wrong(standing), False)
            state = standing[earlier[-1]][1]
            del standing[earlier[-1] :]
            step = family.due(instance, state)
            assert step is not None
        right = piece == step.right.tokens
        updates = step.right.updates if right else family.read(instance, state, step, piece)
        if updates is None:
            return PathReading(completed, _wrong(standing), False)
        standing.append((step.label, dict(state), right or updates == step.right.updates))
        state.update(updates)
        completed += 1
    return PathReading(completed, _wrong(standing), True)


def _wrong(standing: Sequence[tuple[tuple[str, ...], dict[str, int], bool]]) -> tuple[tuple[str, ...], ...]:
    return tuple(label for label, _, right in standing if not right)


def without_filler(step: Sequence[str]) -> tuple[str, ...]:
    """A written step from its label on."""
    return tuple(dropwhile(lambda word: word == HEDGE or word in FILLERS, step))


def _pieces(tokens: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """The completed steps of a path, without their fillers; an interrupted one (it holds ``wait``) and the boxed answer
    are left out."""
    piece: list[str] = []
    for token in tokens:
        if token == STEP_END:
            step = without_filler(piece)
            if step and WAIT not in step and BOX not in step:
                yield step
            piece = []
        else:
            piece.append(token)
