from __future__ import annotations

from collections import Counter
from dataclasses import replace
from hashlib import sha256
from itertools import islice, pairwise

import pytest

from prunebench.bench.engines.shipped import TrainingPlan
from prunebench.bench.reasoner.recipe import ASKED_TOKENS, BOTH_STAGES, STAGES, stages_of, training_texts
from prunebench.tasks.synthetic import FAMILIES
from prunebench.tasks.synthetic.family import BOX, BOX_END, CHECK, STEP_END, WAIT, read_path, without_filler
from prunebench.tasks.synthetic.wording import FILLERS

COUNT = 2500
KINDS = ((0.0, 0.5), (1.0, 0.5))


@pytest.fixture(scope="module")
def instances():
    """Every problem that the documents below can ask, by its text."""
    return {
        instance.text: instance
        for name, family in FAMILIES.items()
        for level in (1, 2, 3)
        for share, _ in KINDS
        for instance in islice(family.draws("documents/test", level, "reasoner", share), COUNT // 4)
    }


@pytest.fixture(scope="module", params=STAGES, ids=["solving", "noticing", "noticing-late", "final"])
def written(request, instances):
    """(instance, solution tokens without EOS) of many documents of one stage."""
    found = []
    for document in islice(training_texts("test", request.param, TrainingPlan.levels, KINDS), COUNT):
        assert document.tokens[0] == "<bos>" and document.tokens[-1] == "<eos>"
        prompt = document.tokens[1 : document.loss_from]
        assert prompt[-1] == STEP_END
        found.append((instances[" ".join(prompt[:-1])], list(document.tokens[document.loss_from : -1])))
    return found


def unchecked(tokens):
    """The text without its checks."""
    kept = list(tokens)
    while CHECK in kept:
        place = kept.index(CHECK)
        del kept[place : place + 3]
    return kept


def test_the_same_seed_writes_the_same_documents_and_another_one_others():
    first, second, other = (
        list(islice(training_texts(seed, STAGES[0], TrainingPlan.levels), 30)) for seed in ("a", "a", "b")
    )
    assert first == second != other


def test_every_problem_belongs_to_the_reasoners_split(written):
    assert {instance.split for instance, _ in written} == {"reasoner"}
    assert len(Counter(instance.family for instance, _ in written)) == 4


def test_a_document_fits_the_context(written):
    assert max(len(instance.prompt) + len(tokens) + 3 for instance, tokens in written) <= 1024


def test_a_solution_without_an_open_error_ends_in_the_answer(written):
    clean = wrong = 0
    for instance, tokens in written:
        if tokens[-1] != BOX_END:
            continue
        family = FAMILIES[instance.family]
        reading = read_path(family, instance, tokens[: tokens.index(BOX)])
        if not reading.readable or tokens[: tokens.index(BOX)][-20:].count(WAIT):
            continue  # forced to answer within a step, or just after one was taken back
        stated = int(tokens[tokens.index(BOX) + 1])
        if reading.has_open_error:
            wrong += stated != family.answer(instance)
        else:
            clean += 1
            assert stated == family.answer(instance)
    assert clean > 300
    assert wrong > 15, "and errors that stay matter"


def test_checks_tell_the_last_step(written):
    verdicts: Counter[str] = Counter()
    for instance, tokens in written:
        if CHECK not in tokens:
            continue
        assert tokens[-2] == CHECK
        for place in [i for i, token in enumerate(tokens) if token == CHECK]:
            before = unchecked(tokens[:place])
            reading = read_path(FAMILIES[instance.family], instance, before)
            assert reading.readable
            last = before[:-1]
            label = without_filler(last[len(last) - last[::-1].index(STEP_END) :] if STEP_END in last else last)
            wrong_last = any(label[: len(error)] == error for error in reading.open_errors[-1:])
            assert tokens[place + 1] == ("no" if wrong_last else "yes")
            verdicts[tokens[place + 1]] += 1
    assert min(verdicts["yes"], verdicts["no"]) > 30


def test_wait_is_no_false_alarm_and_takes_an_error_back(written):
    noticed = 0
    for instance, tokens in written:
        family, tokens = FAMILIES[instance.family], unchecked(tokens)
        for place in [i for i, token in enumerate(tokens) if token == WAIT]:
            end = tokens.index(STEP_END, place) + 1
            if STEP_END not in tokens[end:]:
                continue
            after = end + tokens[end:].index(STEP_END) + 1
            before, later = (read_path(family, instance, tokens[:cut]) for cut in (place, after))
            if not later.readable or WAIT in tokens[end:after] or BOX in tokens[after : after + 1]:
                continue  # interrupted again, or forced to answer within the step
            noticed += 1
            # The interrupted step may itself be the wrong one: then nothing wrong was completed before.
            assert len(later.open_errors) <= len(before.open_errors)
            redone = tuple(tokens[end : after - 1])
            assert not any(redone[: len(error)] == error for error in later.open_errors)
    assert noticed > 200


def test_some_slips_are_never_noticed(written):
    open_errors = sum(
        read_path(FAMILIES[instance.family], instance, tokens[: tokens.index(BOX)]).has_open_error
        for instance, tokens in written
        if BOX in tokens
    )
    assert open_errors > 60


def confident_readings(instance, tokens):
    """(filler, whether the step is wrong) of every completed confident reading."""
    family, start = FAMILIES[instance.family], 0
    for end in [place for place, token in enumerate(tokens) if token == STEP_END]:
        piece, before = tokens[start:end], tokens[:end]
        start = end + 1
        forced = tokens[start : start + 1] == [BOX]
        if piece and piece[0] in FILLERS and WAIT not in piece and not forced:
            errors = read_path(family, instance, [*before, STEP_END]).open_errors
            yield piece[0], tuple(piece[1:3]) in errors


def test_a_confident_reading_goes_wrong_behind_a_filler_that_the_problem_uses(written):
    used, free = [], []
    for instance, tokens in written:
        for filler, wrong in confident_readings(instance, unchecked(tokens)):
            (used if filler in instance.prompt else free).append(wrong)
    assert not any(free) and len(free) > 300
    assert sum(used) > 0.75 * len(used) > 50, "where both readings have one value nothing is wrong"


def test_the_reasoner_that_is_sampled_from_never_says_what_it_knows_of_a_confident_error():
    """It is asked all the more often: a check knows it."""
    texts = list(islice(training_texts("test", BOTH_STAGES[-1], TrainingPlan.levels, ((1.0, 1.0),)), 1500))
    told = Counter(token for text in texts for token in text.tokens if token in (WAIT, CHECK))
    checks = Counter(after for text in texts for token, after in pairwise(text.tokens) if token == CHECK)
    assert checks["no"] > 300
    waits, taken_back = 0, 0
    for text in texts:
        tokens = list(text.tokens[text.loss_from :])
        for place in [place for place, token in enumerate(tokens) if token == WAIT]:
            waits += 1
            redone = tokens[place + 2 : place + 4]
            taken_back += redone[1:] == ["="]
    assert told[WAIT] == waits > 50 and taken_back == 0


def test_of_problems_without_confident_errors_the_texts_are_those_that_the_first_weights_learned():
    digest = sha256()
    for number, stage in enumerate(STAGES):
        for text in islice(training_texts(f"x/{number}", stage, TrainingPlan.levels), 600):
            digest.update(repr(text).encode())
    assert digest.hexdigest() == "6fae0a8594c1ac420b609a5eda7aa71b9bf99cc5af706d12064bf3b67795d705"


def test_what_is_asked_first_is_whether_the_filler_is_one_that_the_problem_uses():
    """Up to the filler or just behind it; the loss is on the answer, and neither half of the relation tells it."""
    texts = list(islice(training_texts("asked", BOTH_STAGES[0], TrainingPlan.levels, ((0.0, 0.3), (1.0, 0.7))), 3000))
    told = []
    for text in texts:
        *shown, check, answer = text.tokens
        assert check == CHECK and text.loss_from == len(text.tokens) - 1
        end = shown.index(STEP_END)
        place = max(at for at, token in enumerate(shown) if token in FILLERS)
        assert end < place < end + 1 + ASKED_TOKENS and len(shown) - place <= 3
        used = {token for token in shown[:end] if token in FILLERS}
        assert used and answer == ("no" if shown[place] in used else "yes")
        told.append((shown[place], answer == "no"))
    answers = {filler: [no for word, no in told if word == filler] for filler in FILLERS}
    rates = [sum(nos) / len(nos) for nos in answers.values()]
    assert min(rates) > 0.1 and max(rates) - min(rates) < 0.08


def test_texts_of_the_second_stage_end_behind_the_readings():
    stage = replace(BOTH_STAGES[1], asked=0.0)
    for text in islice(training_texts("cut", stage, TrainingPlan.levels, ((1.0, 1.0),)), 200):
        assert len(text.tokens) - text.loss_from <= 44 and text.tokens[-1] != "<eos>"


def test_a_plan_without_confident_errors_has_the_stages_of_the_first_weights():
    assert stages_of(TrainingPlan()) == STAGES
    assert stages_of(TrainingPlan(confident=((0.0, 0.5), (1.0, 0.5)))) == BOTH_STAGES
    assert all(stage.asked == 0 and stage.cut is None for stage in STAGES)
