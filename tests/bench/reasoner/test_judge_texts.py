from __future__ import annotations

from collections import Counter
from itertools import islice

import numpy as np
import pytest

from prunebench.bench.reasoner.judge_texts import (
    QUESTION_SHARES,
    QUESTIONS,
    critique,
    cut_solutions,
    prm_text,
    prm_texts,
    separated,
    value_of,
    verifier_text,
    verifier_texts,
)
from prunebench.bench.reasoner.recipe import prompt_tokens
from prunebench.bench.reasoner.vocabulary import RESERVED
from prunebench.methods.judges.verifier import PROMPTS
from prunebench.tasks.synthetic import FAMILIES
from prunebench.tasks.synthetic.family import CHECK, STEP_END, read_path

COUNT = 1500


@pytest.fixture(scope="module")
def cut():
    return list(islice(cut_solutions("test"), COUNT))


def reading(prefix, end=None):
    return read_path(FAMILIES[prefix.instance.family], prefix.instance, prefix.tokens[:end])


def test_the_steps_that_stand_are_those_of_the_reader(cut):
    for prefix in cut:
        assert [end for end, _ in prefix.standing] == [i + 1 for i, t in enumerate(prefix.tokens) if t == STEP_END]
        for end, steps in prefix.standing:
            found = reading(prefix, end)
            assert found.readable
            assert found.open_errors == tuple(step.label for step in steps if not step.right)


def test_problems_come_from_the_reasoners_split_and_from_all_families(cut):
    assert {prefix.instance.split for prefix in cut} == {"reasoner"}
    assert Counter(prefix.instance.family for prefix in cut).keys() == FAMILIES.keys()


def test_prefixes_are_cut_anywhere_and_mostly_early(cut):
    lengths = np.array([len(prefix.tokens) for prefix in cut])
    assert lengths.min() < 5 and lengths.max() > 300
    assert 0.6 < (lengths <= 120).mean() < 0.9
    assert sum(prefix.tokens[-1] != STEP_END for prefix in cut) > COUNT / 2


def test_the_same_seed_writes_the_same_texts_and_another_one_others():
    for documents in (prm_texts, verifier_texts):
        first, second, other = (list(islice(documents(seed), 20)) for seed in ("a", "a", "b"))
        assert first == second != other


def test_marks_are_known_by_arithmetic(cut):
    """Behind every step end and behind an unfinished piece: whether an open error stands up to there."""
    seen: Counter[bool] = Counter()
    for prefix in cut:
        document = prm_text(prefix)
        prompt, body = document.tokens[: document.loss_from], document.tokens[document.loss_from :]
        assert prompt == prompt_tokens(prefix.instance)
        plain: list[str] = []
        for token, following in zip(body, (*body[1:], "<end>"), strict=True):
            if token in RESERVED:
                right = token == RESERVED[0]
                assert right is not reading(prefix, len(plain)).has_open_error
                seen[right] += 1
                assert plain[-1] == STEP_END or following == "<end>"
            else:
                plain.append(token)
                assert token != STEP_END or following in RESERVED
        assert tuple(plain) == prefix.tokens
        assert body[-1] in RESERVED
    assert min(seen.values()) > 500


def test_separators_go_behind_steps_and_what_is_unfinished():
    assert separated(("a", STEP_END, "b", STEP_END), "12") == ("a", STEP_END, "1", "b", STEP_END, "2")
    assert separated(("a", STEP_END, "b"), "12") == ("a", STEP_END, "1", "b", "2")
    assert separated(("a",), "1") == ("a", "1")


@pytest.mark.parametrize(
    ("step", "value"),
    [
        ("a = 3 * 8 = 24 ; 4 + 24 = 28 = 6", 6),
        ("b = 5 - 3 = 2 = 2", 2),
        ("x 2 = 6 * 6 = 36 = 3 ; 2 * 4 = 8 = 8 ; 3 + 8 = 11 = 0", 0),
        ("bit 1 1 : 3 * 3 = 9 = 2 ; 2 * 3 = 6 = 6", 6),
        ("x 35 : 2 - 35 = -33 = 4 ; 7 no", 4),
        ("do 3 p : 4 * 2 = 8 = 1 ; p 1 q 4", 1),
        ("do 1 q : ```python \n print ( ( 8 * 2 ) % 11 ) \n ``` \n ```output \n 5 \n ``` ; p 9 q 5", 5),
    ],
)
def test_the_value_of_a_step_is_what_it_computes(step, value):
    assert value_of(step.split(" ")) == value


def test_a_critique_goes_over_the_standing_steps(cut):
    """It is read back here: labels, the values that the steps should have, and verdicts that agree with the reader."""
    for prefix in cut:
        text = critique(prefix)
        assert text.index(CHECK) == len(text) - 2
        remarks = " ".join(text[:-2]).split(" ; ") if len(text) > 2 else []
        wrong = [remark for remark in remarks if remark.endswith(" no")]
        open_errors = reading(prefix).open_errors
        assert len(wrong) == len(open_errors)
        for remark, label in zip(wrong, open_errors, strict=True):
            assert remark.startswith(" ".join(label) + " ")
        assert text[-1] == ("no" if open_errors else "yes")
        for remark, step in zip(remarks, prefix.steps, strict=True):
            said = [str(step.value)] if step.value is not None else []
            assert remark.split(" ") == [*step.label, *said, "yes" if step.right else "no"]


def test_the_values_of_set_up_steps_are_those_of_the_problem(cut):
    """Worked out here from the problem's own facts."""
    compared = 0
    for prefix in cut:
        facts = prefix.instance.facts
        modulus = int(str(facts["modulus"]))
        for step in prefix.steps:
            if step.sets_up:
                quantity = facts[step.label[0]]
                mixed = hasattr(quantity, "parentheses")
                value = quantity.value(quantity.parentheses) if mixed else quantity.value()
                assert step.value == (value if step.label[0] == "e" else value % modulus)
                compared += 1
    assert compared > 1000


def test_aspects_part_set_up_errors_from_computation_errors(cut):
    for prefix in cut:
        errors = reading(prefix).open_errors
        assert prefix.answer("find") is not any(len(label) == 2 and label[1] == "=" for label in errors)
        assert prefix.answer("do") is not any(label[1:] != ("=",) for label in errors)
        assert prefix.answer("verdict") is prefix.answer("critique") is not bool(errors)
    assert all(prefix.answer("verdict") is (prefix.answer("find") and prefix.answer("do")) for prefix in cut)


def test_the_verifier_is_asked_in_the_words_of_the_methods(cut):
    prompts = PROMPTS["words"]
    asked = {
        "critique": prompts.critique,
        "verdict": prompts.aspects["whole"],
        "find": prompts.aspects["reading"],
        "do": prompts.aspects["computing"],
    }
    assert QUESTIONS["verdict"] == (*prompts.critique.split()[-1:], *prompts.verdict.split())
    for prefix, question in zip(cut, asked, strict=False):
        document = verifier_text(prefix, question)
        problem = " ".join((*prefix.instance.prompt, STEP_END))
        text = asked[question].format(problem=problem, prefix=" ".join(prefix.tokens))
        assert document.tokens[: document.loss_from] == tuple(word for word in text.split(" ") if word)


def test_the_verifiers_questions_are_balanced_and_fit_the_context():
    answers: Counter[tuple[str, str]] = Counter()
    for document in islice(verifier_texts("test"), COUNT):
        assert len(document.tokens) <= 1024
        assert document.tokens[-1] == "<eos>"
        asked = document.tokens[: document.loss_from]
        kind = next(
            kind
            for kind in ("verdict", "find", "do", "critique")
            if asked[-2:][-len(QUESTIONS[kind]) :] == QUESTIONS[kind]
        )
        answers[kind, document.tokens[-2]] += 1
    for kind, share in QUESTION_SHARES.items():
        yes, no = answers[kind, "yes"], answers[kind, "no"]
        assert abs(yes + no - share * COUNT) < 4 * (share * COUNT) ** 0.5
        assert abs(yes - no) < 4 * (yes + no) ** 0.5
