from __future__ import annotations

import random
import re
from itertools import islice

import pytest

from prunebench.bench.reasoner.vocabulary import VOCABULARY
from prunebench.tasks.synthetic import FAMILIES
from prunebench.tasks.synthetic.family import STEP_END, WAIT, read_path

CASES = [pytest.param(family, plan, id=f"{name}-{family.strategies[plan]}") for name, family in FAMILIES.items()
         for plan in (0, 1)]  # fmt: skip


def instances(family, count, level=2, split="train"):
    return list(islice(family.draws("test families", level, split), count))


def walk(family, instance, plan, rng, slip_rate):
    """(tokens, labels of wrong steps, final state): a written solution with slips injected at ``slip_rate``."""
    state = {**instance.start, "plan": plan}
    tokens, wrong = ["plan", ":", family.strategies[plan], STEP_END], []
    while (step := family.due(instance, state)) is not None:
        outcome = step.right
        if step.slips and rng.random() < slip_rate:
            outcome = rng.choice(step.slips)[1]
        if outcome.updates != step.right.updates:
            wrong.append(step.label)
        tokens += [*outcome.tokens, STEP_END]
        state.update(outcome.updates)
    return tokens, wrong, state


def solved(text):
    """The answer, from the words of the problem alone."""
    expressions = re.sub(r"(\d+) from (\d+)", r"\2 - \1", text).replace(" less ", " - ")
    modulus = int(re.search(r"mod (\d+)", text)[1])
    facts = {
        name.strip(): eval(value)  # the expressions are our own
        for name, value in re.findall(r"([abegpq]|x \d+) = ([-\d ()+*]+) ;", expressions.split(" do 1 ")[0])
    }
    if text.startswith("power"):
        return pow(facts["g"], facts["e"], modulus)
    if text.startswith("congruence"):
        return next(x for x in range(modulus) if (facts["a"] * x - facts["b"]) % modulus == 0)
    if text.startswith("recurrence"):
        before, now = facts["x 0"], facts["x 1"]
        for _ in range(int(text.split()[-1]) - 1):
            before, now = now, (facts["a"] * now + facts["b"] * before) % modulus
        return now
    registers = {"p": facts["p"], "q": facts["q"]}
    for register, expression in re.findall(r"do \d+ ([pq]) = ([^;]+) ;", text):
        registers[register] = eval(expression, {}, registers) % modulus
    return registers["p"]


@pytest.mark.parametrize(("family", "plan"), CASES)
@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_every_right_solution_reaches_the_answer(family, plan, level):
    for instance in instances(family, 25, level):
        tokens, wrong, state = walk(family, instance, plan, random.Random(0), slip_rate=0.0)
        assert wrong == []
        assert family.result(instance, state) == family.answer(instance) == solved(instance.text)
        reading = read_path(family, instance, tokens)
        assert (reading.readable, reading.open_errors) == (True, ())
        assert reading.steps == tokens.count(STEP_END)


@pytest.mark.parametrize(("family", "plan"), CASES)
def test_reading_finds_exactly_the_injected_errors(family, plan):
    rng, injected = random.Random(f"{family.name}/{plan}"), 0
    for instance in instances(family, 60):
        tokens, wrong, _ = walk(family, instance, plan, rng, slip_rate=0.3)
        reading = read_path(family, instance, tokens)
        assert reading.readable
        assert list(reading.open_errors) == wrong
        injected += len(wrong)
    assert injected > 60


@pytest.mark.parametrize(("family", "plan"), CASES)
def test_going_back_to_an_error_takes_back_all_that_follows_it(family, plan):
    """Two steps are written wrong, ``wait`` interrupts the third, and the first or the second is done again."""
    for instance in instances(family, 20):
        start = {**instance.start, "plan": plan}
        first = family.due(instance, start)
        state = {**start, **first.slips[0][1].updates}
        second = family.due(instance, state)
        later = {**state, **second.slips[0][1].updates}
        if state == {**start, **first.right.updates} or later == {**state, **second.right.updates}:
            continue  # both readings have one value: nothing is wrong
        third = family.due(instance, later).right.tokens
        tokens = ["plan", ":", family.strategies[plan], STEP_END]
        tokens += [*first.slips[0][1].tokens, STEP_END, *second.slips[0][1].tokens, STEP_END]
        assert read_path(family, instance, tokens).open_errors == (first.label, second.label)
        tokens += [*third[:2], WAIT, STEP_END]
        corrected = [*tokens, *second.right.tokens, STEP_END]
        assert read_path(family, instance, corrected).open_errors == (first.label,)
        corrected = [*tokens, *first.right.tokens, STEP_END]
        assert read_path(family, instance, corrected).open_errors == ()


def test_bits_that_are_written_wrong_are_read_on():
    """No misconception touches them, so they carry no error of their own; what they lead to does."""
    family = FAMILIES["power"]
    (instance,) = instances(family, 1)
    tokens, _, _ = walk(family, instance, 1, random.Random(0), slip_rate=0.0)
    end = tokens.index(STEP_END, tokens.index("bits"))
    reading = read_path(family, instance, [*tokens[:end], "1", *tokens[end:]])
    assert (reading.readable, reading.open_errors, reading.steps) == (True, (), tokens.count(STEP_END))


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_a_path_that_leaves_the_format_is_unreadable_from_there_on(family):
    (instance,) = instances(family, 1)
    tokens, _, _ = walk(family, instance, 0, random.Random(0), slip_rate=0.0)
    cut = [i + 1 for i, token in enumerate(tokens) if token == STEP_END][2]
    reading = read_path(family, instance, [*tokens[:cut], "yes", "yes", STEP_END, *tokens[cut:]])
    assert (reading.readable, reading.steps) == (False, 3)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_the_vocabulary_covers_every_token_that_a_family_writes(family, level):
    vocabulary, rng = set(VOCABULARY), random.Random(level)
    for instance in instances(family, 150, level, "reasoner"):
        assert set(instance.prompt) <= vocabulary
        for plan in (0, 1):
            assert set(walk(family, instance, plan, rng, slip_rate=0.4)[0]) <= vocabulary


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_splits_get_their_shares(family):
    rng = random.Random(1)
    drawn = [family.instance(rng, 2).split for _ in range(2000)]
    shares = {split: drawn.count(split) / len(drawn) for split in ("reasoner", "train", "validation", "test")}
    assert shares == pytest.approx({"reasoner": 0.6, "train": 0.2, "validation": 0.1, "test": 0.1}, abs=0.04)
