from __future__ import annotations

import random
import re
from collections import defaultdict
from itertools import islice

import pytest

from prunebench.bench.reasoner.vocabulary import VOCABULARY
from prunebench.tasks.synthetic import FAMILIES
from prunebench.tasks.synthetic.family import STEP_END, WAIT, read_path
from prunebench.tasks.synthetic.wording import FILLERS

CASES = [pytest.param(family, plan, id=f"{name}-{family.strategies[plan]}") for name, family in FAMILIES.items()
         for plan in (0, 1)]  # fmt: skip


def instances(family, count, level=2, split="train", confident=0.0):
    return list(islice(family.draws("test families", level, split, confident), count))


def walk(family, instance, plan, rng, slip_rate):
    """(tokens, labels of wrong steps, final state): a written solution with slips injected at ``slip_rate``."""
    state = {**instance.start, "plan": plan}
    tokens, wrong = ["plan", ":", family.strategies[plan], STEP_END], []
    while (step := family.due(instance, state)) is not None:
        outcome = step.right
        if step.ways:
            filler, outcome = rng.choice(step.ways)
            tokens.append(filler)
        elif step.slips and rng.random() < slip_rate:
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
@pytest.mark.parametrize("confident", [0.5, 1.0])
def test_reading_finds_exactly_the_confident_errors_too(family, plan, confident):
    rng, injected = random.Random(f"{family.name}/{plan}"), 0
    for instance in instances(family, 60, confident=confident):
        tokens, wrong, state = walk(family, instance, plan, rng, slip_rate=0.05)
        reading = read_path(family, instance, tokens)
        assert reading.readable and list(reading.open_errors) == wrong
        assert reading.steps == tokens.count(STEP_END)
        assert wrong or family.result(instance, state) == solved(instance.text)
        injected += sum(label[1:] == ("=",) for label in wrong)
    assert injected > 30 * confident


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_the_share_says_how_many_quantities_are_misread_without_a_doubt(family):
    """At 0 problems are the old ones; at 1 nothing is drawn where a quantity is read."""
    assert family.instance(random.Random(7), 2) == family.instance(random.Random(7), 2, 0.0)
    for share in (0.0, 0.25, 0.5, 1.0):
        drawn = instances(family, 300, confident=share)
        given = [word for instance in drawn for word in instance.prompt if word in FILLERS]
        assert len(given) / (2 * len(drawn)) == pytest.approx(share, abs=0.06)
        assert any(instance.confident for instance in drawn) == (share > 0)
        for instance in drawn:
            first = family.due(instance, {**instance.start, "plan": 0})
            assert bool(first.ways) != bool(first.slips)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_neither_the_filler_nor_what_is_read_behind_it_tells_a_confident_error(family):
    """Over all problems every filler goes wrong equally often, whichever reading it stands before; with the words of
    the problem it goes wrong always or never."""
    told = defaultdict(list)
    for instance in instances(family, 2500, confident=1.0):
        step = family.due(instance, {**instance.start, "plan": 0})
        assert [filler for filler, _ in step.ways] == list(FILLERS)
        for filler, outcome in step.ways:
            wrong = outcome.tokens != step.right.tokens
            assert wrong == (filler in instance.prompt)
            sign = next(token for token in outcome.tokens[2:] if token in ("+", "*", "-"))
            told[filler, sign].append(wrong)
    rates = [sum(wrong) / len(wrong) for wrong in told.values()]
    assert len(rates) >= len(FILLERS) and max(rates) - min(rates) < 0.08


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
    for instance in instances(family, 150, level, "reasoner", confident=0.5):
        assert set(instance.prompt) <= vocabulary
        for plan in (0, 1):
            assert set(walk(family, instance, plan, rng, slip_rate=0.4)[0]) <= vocabulary


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_splits_get_their_shares(family):
    rng = random.Random(1)
    drawn = [family.instance(rng, 2).split for _ in range(2000)]
    shares = {split: drawn.count(split) / len(drawn) for split in ("reasoner", "train", "validation", "test")}
    assert shares == pytest.approx({"reasoner": 0.6, "train": 0.2, "validation": 0.1, "test": 0.1}, abs=0.04)
