"""What the embedded reasoner is taught: solutions of a fallible reasoner that sometimes notices its own errors.

A slip is noticed with some probability, after a geometric delay counted in tokens from the first wrong token, at any
place of the text: the hazard of ``wait`` is then spread over all tokens that follow an open error, so that every
state, not only those at step ends, has to carry whether something is wrong. A belief that is held by most (a slip of
high rate) is questioned less often than a rare slip. There are no false alarms, and a step that is done again is
right.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from prunebench.bench.engines.shipped import TrainingPlan
from prunebench.bench.reasoner.vocabulary import BOS, EOS
from prunebench.tasks.synthetic import FAMILIES
from prunebench.tasks.synthetic.family import (
    BOX,
    BOX_END,
    CHECK,
    STEP_END,
    WAIT,
    DueStep,
    Family,
    Instance,
    StepOutcome,
    numeral,
)
from prunebench.tasks.synthetic.wording import FILLERS, HEDGE


@dataclass(frozen=True)
class Stage:
    """How a stretch of the training errs and notices, up to the share ``until`` of the training (None: to its end).

    ``patience_tokens`` is the mean delay until a slip is noticed; ``audited`` is the share of texts in which every step
    is followed by its check. Of problems with confident errors ``audited_confident`` is that share,
    ``noticed_confident`` the chance that such an error is noticed, and ``asked`` the share of texts that end behind a
    filler and ask whether it is safe; 1: there are no others. ``cut``: texts end so many tokens behind the problem.
    ``hedged`` is the chance that a hedge stands before a step, and again before that.
    """

    until: float | None
    slip_factor: float
    noticed: float
    noticed_firm: float
    patience_tokens: float
    audited: float = 0.0
    noticed_confident: float = 0.0
    audited_confident: float = 0.0
    asked: float = 0.0
    cut: int | None = None
    hedged: float = 0.0


FIRM_RATE = 0.5
"""Slips of at least this rate are beliefs held firmly: they are noticed with ``noticed_firm`` only."""

STAGES = (
    Stage(until=9 / 36, slip_factor=1.0, noticed=0.92, noticed_firm=0.85, patience_tokens=6.0),
    Stage(until=14.6 / 36, slip_factor=0.4, noticed=0.95, noticed_firm=0.95, patience_tokens=4.0, audited=0.35),
    Stage(until=22 / 36, slip_factor=0.7, noticed=0.95, noticed_firm=0.95, patience_tokens=24.0, audited=0.15),
    Stage(until=None, slip_factor=1.0, noticed=0.80, noticed_firm=0.50, patience_tokens=24.0, audited=0.05),
)
"""First what a solution is. Then what noticing is: with slips half as frequent a reading depends on the problem in the
first place, which has to be learned before an exception from it can be seen; noticed soon, and checked step by step.
Then noticing late, so that every state behind an error carries it. Last the reasoner that is sampled from, which
notices late or never."""

_SOLVING, _SOON, _LATE, _LAST = STAGES
BOTH_STAGES = tuple(
    replace(stage, hedged=0.15)
    for stage in (
        replace(_SOLVING, until=0.8 / 40, slip_factor=0.5, asked=1.0),
        replace(_SOLVING, until=4 / 40, slip_factor=0.5, asked=0.3, noticed_confident=0.9, cut=44),
        replace(_SOLVING, until=11 / 40, slip_factor=0.5, asked=0.1, noticed_confident=0.9),
        replace(_SOON, until=18 / 40, asked=0.1, noticed_confident=0.95, audited_confident=0.25),
        replace(_LATE, until=27 / 40, asked=0.05, noticed_confident=0.95, audited_confident=0.15),
        replace(_LAST, asked=0.05, audited_confident=0.15),
    )
)
"""Where some errors are confident: before all else which filler is safe, asked right behind it; then readings, in texts
that end there, with fatal fillers half as frequent as they will be: what a right reading is has to be learned before
its exception. Together with everything else from the beginning neither is learned, not in 1,000 updates."""
ASKED_TOKENS = 44
"""Behind the problem: fillers beyond are not asked about."""

AUDITED = Stage(until=None, slip_factor=1.0, noticed=0.25, noticed_firm=0.25, patience_tokens=12.0)
"""Whose steps are checked one by one: a slip that was noticed at once would leave nothing to find."""

FULL_RATE, CHECK_RATE = 0.74, 0.16  # the rest is cut anywhere and forced to answer


@dataclass(frozen=True)
class TrainingText:
    """The loss is taken on ``tokens[loss_from:]`` only."""

    tokens: tuple[str, ...]
    loss_from: int


@dataclass(frozen=True)
class _Choice:
    """How a step is written: a filler, if any, and what stands behind it; the chance that an error is noticed."""

    outcome: StepOutcome
    noticed: float = 0.0
    filler: tuple[str, ...] = ()


@dataclass
class _Slip:
    at: int
    noticed_at: float
    state: dict[str, int]


@dataclass
class _Written:
    """A walk in progress: its tokens, and after every completed step (token count, step was right, state)."""

    tokens: list[str]
    marks: list[tuple[int, bool, dict[str, int]]]


def prompt_tokens(instance: Instance) -> tuple[str, ...]:
    return (BOS, *instance.prompt, STEP_END)


def boxed(answer: int) -> tuple[str, ...]:
    return (BOX, numeral(answer), BOX_END)


def write_solution(family: Family, instance: Instance, stage: Stage, rng: random.Random) -> _Written:
    """One solution, without prompt and answer, as the fallible reasoner would write it."""
    plan = 0 if rng.random() < family.first_strategy_rate else 1
    state = {**instance.start, "plan": plan}
    written = _Written(["plan", ":", family.strategies[plan], STEP_END], [(4, True, dict(state))])
    slips: list[_Slip] = []
    redo = False
    while (step := family.due(instance, state)) is not None:
        choice = _Choice(step.right) if redo else _draw(step, stage, rng)
        while stage.hedged and rng.random() < stage.hedged:
            written.tokens.append(HEDGE)
        outcome, redo = choice.outcome, False
        start = len(written.tokens)
        written.tokens += choice.filler
        wrong = outcome.updates != step.right.updates
        if wrong:
            parted = next(
                (i for i, (x, y) in enumerate(zip(outcome.tokens, step.right.tokens, strict=False)) if x != y), 0
            )
            delay = 1 + int(math.log(1 - rng.random()) / math.log(1 - 1 / stage.patience_tokens))
            noticed_at = len(written.tokens) + parted + delay if rng.random() < choice.noticed else math.inf
            slips.append(_Slip(start, noticed_at, dict(state)))
        written.tokens += [*outcome.tokens, STEP_END]
        state.update(outcome.updates)
        written.marks.append((len(written.tokens), not wrong, dict(state)))
        due = min(slips, key=lambda slip: slip.noticed_at, default=None)
        if due is not None and due.noticed_at <= len(written.tokens):
            cut = int(due.noticed_at)
            written.tokens = [*written.tokens[:cut], WAIT, STEP_END]
            written.marks = [mark for mark in written.marks if mark[0] <= cut]
            state = dict(due.state)
            slips = [slip for slip in slips if slip.at < due.at]
            redo = True
    return written


def _draw(step: DueStep, stage: Stage, rng: random.Random) -> _Choice:
    if step.ways:
        ways = step.ways if rng.random() < stage.slip_factor else _right_ways(step)
        filler, outcome = rng.choice(ways)
        return _Choice(outcome, stage.noticed_confident, (filler,))
    draw = rng.random()
    for rate, outcome in step.slips:
        draw -= rate * stage.slip_factor
        if draw < 0:
            return _Choice(outcome, stage.noticed_firm if rate >= FIRM_RATE else stage.noticed)
    return _Choice(step.right)


def _right_ways(step: DueStep) -> tuple[tuple[str, StepOutcome], ...]:
    return tuple((filler, outcome) for filler, outcome in step.ways if outcome == step.right)


def finish(family: Family, instance: Instance, state: dict[str, int]) -> int:
    """The answer that ``state`` leads to when nothing more goes wrong."""
    state = dict(state)
    while (step := family.due(instance, state)) is not None:
        state.update(step.right.updates)
    return family.result(instance, state)


def training_text(family: Family, instance: Instance, stage: Stage, rng: random.Random) -> TrainingText:
    prompt = prompt_tokens(instance)
    if stage.asked and instance.confident and rng.random() < stage.asked:
        return _asked(prompt, write_solution(family, instance, stage, rng).tokens, rng)
    audited = stage.audited_confident if instance.confident else stage.audited
    if audited and rng.random() < audited:
        auditor = replace(AUDITED, noticed_confident=AUDITED.noticed if stage.noticed_confident else 0.0)
        return TrainingText((*prompt, *_audit(write_solution(family, instance, auditor, rng), rng), EOS), len(prompt))
    written = write_solution(family, instance, stage, rng)
    if stage.cut is not None:
        return TrainingText((*prompt, *written.tokens[: stage.cut]), len(prompt))
    kind = rng.random()
    if kind < FULL_RATE:
        body: list[str] = [*written.tokens, *boxed(finish(family, instance, written.marks[-1][2]))]
    elif kind < FULL_RATE + CHECK_RATE:
        wrong = [mark for mark in written.marks if not mark[1]]
        length, was_right, _ = rng.choice(wrong if wrong and rng.random() < 0.6 else written.marks)
        body = [*written.tokens[:length], CHECK, "yes" if was_right else "no"]
    else:
        cut = rng.randint(4, len(written.tokens))
        state = [mark[2] for mark in written.marks if mark[0] <= cut][-1]
        body = [*written.tokens[:cut], STEP_END, *boxed(finish(family, instance, state))]
    return TrainingText((*prompt, *body, EOS), len(prompt))


def _asked(prompt: tuple[str, ...], tokens: Sequence[str], rng: random.Random) -> TrainingText:
    """A path up to a filler or just behind it, and whether that one is safe; the loss is on the answer only."""
    used = {word for word in prompt if word in FILLERS}
    place = rng.choice([at for at, token in enumerate(tokens[:ASKED_TOKENS]) if token in FILLERS])
    behind = tokens[: place + 1 + rng.randint(0, 2)]
    text = (*prompt, *behind, CHECK, "no" if tokens[place] in used else "yes")
    return TrainingText(text, len(text) - 1)


def _audit(written: _Written, rng: random.Random) -> list[str]:
    """The first few steps (with what was taken back among them), each followed by its check."""
    body: list[str] = []
    start = 0
    for end, was_right, _ in written.marks[: rng.randint(2, 12)]:
        body += [*written.tokens[start:end], CHECK, "yes" if was_right else "no", STEP_END]
        start = end
    return body[:-1]


def chunk_of(index: int, stage: Stage, plan: TrainingPlan) -> tuple[TrainingText, ...]:
    """One chunk of training texts; different for every ``index``."""
    texts = training_texts(f"{plan.seed}/{index}", stage, plan.levels, plan.confident)
    return tuple(islice(texts, plan.chunk_documents))


def stages_of(plan: TrainingPlan) -> tuple[Stage, ...]:
    return BOTH_STAGES if max(share for share, _ in plan.confident) else STAGES


def stage_at(share: float, stages: Sequence[Stage] = STAGES) -> Stage:
    """The stage that is due after this share of the training."""
    return next(stage for stage in stages if stage.until is None or share < stage.until)


def training_texts(
    seed: str,
    stage: Stage,
    shares: Sequence[tuple[int, float]],
    confident: Sequence[tuple[float, float]] = TrainingPlan.confident,
) -> Iterator[TrainingText]:
    """Endless training texts of one stage about problems of the reasoner's split; see :func:`problems`."""
    rng = random.Random(f"documents/{seed}")
    for family, instance in problems(f"documents/{seed}", rng, shares, confident):
        if stage.asked == 1 and not instance.confident:
            continue
        yield training_text(family, instance, stage, rng)


def problems(
    seed: str, rng: random.Random, shares: Sequence[tuple[int, float]], confident: Sequence[tuple[float, float]]
) -> Iterator[tuple[Family, Instance]]:
    """Endless problems of the reasoner's split, the family of each drawn evenly.

    ``shares`` are (level, share of the problems), ``confident`` (share of confident errors, share of the problems).
    """
    levels, weights = zip(*shares, strict=True)
    kinds, kind_weights = zip(*confident, strict=True)
    streams = {
        (name, level, kind): family.draws(seed, level, "reasoner", kind)
        for name, family in FAMILIES.items()
        for level in levels
        for kind in kinds
    }
    while True:
        name = rng.choice(tuple(FAMILIES))
        (level,) = rng.choices(levels, weights)
        (kind,) = rng.choices(kinds, kind_weights) if len(kinds) > 1 else kinds
        yield FAMILIES[name], next(streams[name, level, kind])
