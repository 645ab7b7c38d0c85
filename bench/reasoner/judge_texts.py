"""What the shipped judges read and learn from: cut solutions, and what arithmetic knows of them.

``prm`` reads ``<bos> problem \\n\\n`` and then the path with the token ``<extra_0>`` behind every ``\\n\\n`` and behind
the last piece when that is unfinished::

    <bos> problem \\n\\n plan : early \\n\\n <extra_0> a = 3 + 4 = 7 ; 7 * 2 = 14 = 3 \\n\\n <extra_0> b = 9 - <extra_0>

The mark of a piece is right while no open error stands up to there.

``verifier`` is a causal language model over the same words. Behind ``<bos> problem \\n\\n prefix`` it is asked by

- ``check:`` for a critique: every standing step by its label, the value that it should have and yes or no, parted by
  ``;``, then ``check:`` and its verdict: ``plan yes ; a = 3 yes ; b = 4 no check: no``;
- ``check: check:`` for the bare verdict; no means that an open error stands in the prefix;
- ``check: find`` whether the set-up readings are right, ``check: do`` whether the computations are right.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from prunebench.bench.engines.shipped import SYNTHETIC, ReasonerShape
from prunebench.bench.reasoner.recipe import (
    STAGES,
    TrainingText,
    boxed,
    finish,
    problems,
    prompt_tokens,
    write_solution,
)
from prunebench.bench.reasoner.vocabulary import EOS, RESERVED
from prunebench.tasks.synthetic.family import BOX, CHECK, STEP_END, WAIT, Family, Instance, last_number, without_filler

RIGHT_MARK, WRONG_MARK = RESERVED[0], RESERVED[1]
"""In a training text the separator and its label are one token; the model sees both as the first."""

Question = Literal["critique", "verdict", "find", "do"]
QUESTIONS: Mapping[Question, tuple[str, ...]] = {
    "critique": (CHECK,),
    "verdict": (CHECK, CHECK),
    "find": (CHECK, "find"),
    "do": (CHECK, "do"),
}
"""What stands behind a prefix when the verifier is asked."""

QUESTION_SHARES: Mapping[Question, float] = {"critique": 0.55, "verdict": 0.15, "find": 0.15, "do": 0.15}

EARLY_SHARE, EARLY_TOKENS = 0.6, 120
"""This share of the prefixes is cut within the first tokens, where checkpoints lie; the rest is cut anywhere."""

# --- what is known by arithmetic ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class JudgedStep:
    """A completed step that stands: its label, the value that a right one ends in, and whether it is right."""

    label: tuple[str, ...]
    value: int | None
    right: bool

    @property
    def sets_up(self) -> bool:
        """Whether it reads a quantity of the problem, rather than computing with what was read."""
        return self.label[1:] == ("=",)


@dataclass(frozen=True)
class CutSolution:
    """A solution cut somewhere: its tokens and, for every step end in it, the token count and the steps that stand."""

    instance: Instance
    tokens: tuple[str, ...]
    standing: tuple[tuple[int, tuple[JudgedStep, ...]], ...]

    @property
    def steps(self) -> tuple[JudgedStep, ...]:
        return self.standing[-1][1] if self.standing else ()

    def answer(self, question: Question) -> bool:
        """Whether no open error of the kind that is asked for stands."""
        kinds = {"find": (True,), "do": (False,)}.get(question, (True, False))
        return all(step.right for step in self.steps if step.sets_up in kinds)


def value_of(tokens: Sequence[str]) -> int | None:
    """The value in which a rightly written step ends: its last number, what is only said beside it left out."""
    parts = " ".join(tokens).split(" ; ")
    if len(parts) > 1 and "=" not in parts[-1].split(" "):
        parts.pop()
    return last_number(" ; ".join(parts).split(" "))


def judge_steps(
    family: Family, instance: Instance, tokens: Sequence[str]
) -> tuple[tuple[int, tuple[JudgedStep, ...]], ...]:
    """Follow a readable path: after every step end, (token count, the steps that stand, in their order)."""
    state: dict[str, int] = dict(instance.start)
    standing: list[tuple[JudgedStep, dict[str, int]]] = []
    after = []
    start = 0
    for end in [place + 1 for place, token in enumerate(tokens) if token == STEP_END]:
        piece = without_filler(tokens[start : end - 1])
        start = end
        if piece and WAIT not in piece and BOX not in piece:
            state = _judge(family, instance, piece, standing, state)
        after.append((end, tuple(step for step, _ in standing)))
    return tuple(after)


def _judge(
    family: Family,
    instance: Instance,
    piece: tuple[str, ...],
    standing: list[tuple[JudgedStep, dict[str, int]]],
    state: dict[str, int],
) -> dict[str, int]:
    """Put one step on ``standing`` (with the state before it), instead of those that it takes back; the state after."""
    if piece[0] == "plan":
        standing.append((JudgedStep(("plan",), None, True), state))
        return {**state, "plan": family.strategies.index(piece[2])}
    step = family.due(instance, state)
    if step is None or piece[: len(step.label)] != step.label:
        redone = max(i for i, (done, _) in enumerate(standing) if piece[: len(done.label)] == done.label)
        state = standing[redone][1]
        del standing[redone:]
        step = family.due(instance, state)
        assert step is not None
    right = step.right.updates
    updates = right if piece == step.right.tokens else family.read(instance, state, step, piece)
    assert updates is not None
    standing.append((JudgedStep(step.label, value_of(step.right.tokens), updates == right), state))
    return {**state, **updates}


# --- training texts -----------------------------------------------------------------------------------------------


def cut_solutions(seed: str) -> Iterator[CutSolution]:
    """Endless cut solutions in the manner of the last two stages; the problems come from the reasoner's split."""
    rng = random.Random(f"judges/{seed}")
    plan = SYNTHETIC["embedded"].training
    for family, instance in problems(f"judges/{seed}", rng, plan.levels, plan.confident):
        written = write_solution(family, instance, rng.choice(STAGES[-2:]), rng)
        tokens = (*written.tokens, *boxed(finish(family, instance, written.marks[-1][2])))
        last = min(EARLY_TOKENS, len(tokens)) if rng.random() < EARLY_SHARE else len(tokens)
        tokens = tokens[: rng.randint(1, last)]
        yield CutSolution(instance, tokens, judge_steps(family, instance, tokens))


def separated(tokens: Sequence[str], marks: Sequence[str]) -> tuple[str, ...]:
    """A path with one of ``marks`` behind every step end, and the last behind a piece that is unfinished."""
    out: list[str] = []
    left = iter(marks)
    for token in tokens:
        out += [token, next(left)] if token == STEP_END else [token]
    return (*out, *left)


def prm_text(solution: CutSolution) -> TrainingText:
    """What the process reward model reads; each mark holds its label, and there is no loss on the problem."""
    rights = [all(step.right for step in steps) for _, steps in solution.standing]
    if solution.tokens[-1] != STEP_END:
        rights.append(solution.answer("verdict"))
    prompt = prompt_tokens(solution.instance)
    marks = [RIGHT_MARK if right else WRONG_MARK for right in rights]
    return TrainingText((*prompt, *separated(solution.tokens, marks)), len(prompt))


def critique(solution: CutSolution) -> tuple[str, ...]:
    """What the verifier writes behind ``check:``: its remarks, ``check:`` and the verdict."""
    out: list[str] = []
    for step in solution.steps:
        value = () if step.value is None else (str(step.value),)
        out += [*([";"] if out else []), *step.label, *value, _word(step.right)]
    return (*out, CHECK, _word(solution.answer("critique")))


def verifier_text(solution: CutSolution, question: Question) -> TrainingText:
    """Problem, prefix, question and the verifier's words; there is a loss on its words only."""
    context = (*prompt_tokens(solution.instance), *solution.tokens, *QUESTIONS[question])
    words = critique(solution) if question == "critique" else (_word(solution.answer(question)),)
    return TrainingText((*context, *words, EOS), len(context))


def _word(right: bool) -> str:
    return "yes" if right else "no"


def prm_texts(seed: str) -> Iterator[TrainingText]:
    return _short(prm_text(solution) for solution in cut_solutions(seed))


def verifier_texts(seed: str) -> Iterator[TrainingText]:
    """Questions in their shares; for each, as many prefixes are answered by yes as by no."""
    rng = random.Random(f"questions/{seed}")
    waiting = cut_solutions(seed)

    def asked() -> Iterator[TrainingText]:
        while True:
            (question,) = rng.choices(list(QUESTION_SHARES), list(QUESTION_SHARES.values()))
            wanted = rng.random() < 0.5
            solution = next(solution for solution in waiting if solution.answer(question) is wanted)
            yield verifier_text(solution, question)

    return _short(asked())


def _short(texts: Iterator[TrainingText]) -> Iterator[TrainingText]:
    """Those that the context holds."""
    return (text for text in texts if len(text.tokens) <= ReasonerShape.max_position_embeddings)
