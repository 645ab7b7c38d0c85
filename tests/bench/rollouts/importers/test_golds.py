"""Gold answers of imports, by the format plain."""

from __future__ import annotations

import pytest

from prunebench.bench.errors import UserError
from prunebench.bench.rollouts.importers.contract import Options
from prunebench.bench.rollouts.importers.plain import read


def test_several_gold_answers_may_be_right(json_lines, imported):
    rows = [{"problem": "p", "answer": ["5", "five", None], "text": [r"\boxed{5}", r"\boxed{five}", r"\boxed{6}"]}]
    problems, _ = imported("plain", json_lines(rows))
    assert problems["p"].gold == '["5", "five"]'
    assert [path.correct for path in problems["p"].paths] == [True, True, False]


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("We share: 28/7=4.\n#### 4", "4"),
        (r"Then $x=\boxed{4}$.", "4"),
        ("She had 28 apples and gave all of them to 7 friends, so each of them got some", None),
    ],
)
def test_a_whole_solution_is_no_gold_answer(json_lines, answer, gold):
    path = json_lines([{"problem": "p", "answer": answer, "text": "x"}])
    if gold is None:
        with pytest.raises(UserError, match=r"field 'answer' is 'She .* not an answer, nor does it state one"):
            list(read(path, Options()))
        return
    assert [problem.gold for problem in read(path, Options())] == [gold]


def test_gold_answers_must_be_of_the_type(json_lines, imported, tmp_path):
    path = json_lines([{"problem": "p", "answer": "water", "text": "x"}])
    with pytest.raises(UserError, match="field 'answer' is 'water', not an answer, nor does it state one"):
        imported("plain", path, answer_type="choice")
    with pytest.raises(UserError, match="field 'answer' is 'water', not an integer, as --answer-type integer wants"):
        imported("plain", path, answer_type="integer")
    assert not (tmp_path / "out").exists()
    assert imported("plain", path, answer_type="text")[0]["p"].gold == "water"


@pytest.mark.parametrize(
    ("golds", "kind", "answers"),
    [
        (["C", "(A)"], "choice", ["C", None]),
        (["C", "5"], "math", ["C", None]),
        (["c", "A"], "math", ["C", None]),
    ],
)
def test_letters_are_read_as_choices(json_lines, imported, golds, kind, answers):
    texts = ['"ANSWER": "C"', "A carbon atom"]
    rows = [
        {"problem": str(place), "answer": gold, "text": text}
        for place, (gold, text) in enumerate(zip(golds, texts, strict=True))
    ]
    problems, report = imported("plain", json_lines(rows))
    assert [problem.paths[0].answer for problem in problems.values()] == answers
    assert report.guessed == ("choice" if kind == "choice" else None)


@pytest.mark.parametrize(
    ("answers", "golds"),
    [
        (["C", "(a)"], ["C", "A"]),
        (["ice", "water"], ["C", "A"]),
        ([2, 0], ["C", "A"]),
        (["3", "1"], ["C", "A"]),
        ([["A", "ice"], "B"], ['["A", "C"]', "B"]),
    ],
)
def test_choices_make_letters_of_gold_answers(json_lines, imported, answers, golds):
    rows = [
        {"problem": str(place), "answer": answer, "choices": ["water", "stone", "ice"], "text": "Answer: C"}
        for place, answer in enumerate(answers)
    ]
    problems, report = imported("plain", json_lines(rows))
    assert [problem.gold for problem in problems.values()] == golds
    assert [problem.paths[0].correct for problem in problems.values()] == ["C" in gold for gold in golds]
    assert report.guessed == "choice"


@pytest.mark.parametrize(
    ("answers", "complaint"),
    [
        ([1, 2], "places of choices, which may be counted from 0 or from 1; write their letters in the field 'answer'"),
        (["fire"], r"problem '0' has the answer 'fire', which is not one of its choices \['water', 'stone', 'ice'\]"),
    ],
)
def test_answers_that_are_no_choice_are_told(json_lines, answers, complaint):
    rows = [
        {"problem": str(place), "answer": answer, "choices": ["water", "stone", "ice"], "text": "Answer: C"}
        for place, answer in enumerate(answers)
    ]
    with pytest.raises(UserError, match=complaint):
        list(read(json_lines(rows), Options()))


def test_the_choices_of_a_problem_are_in_one_order(json_lines):
    row = {"problem": "p", "answer": "ice", "text": "Answer: A"}
    rows = [{**row, "choices": ["ice", "water"]}, {**row, "choices": ["water", "ice"]}]
    with pytest.raises(UserError, match=r"line 2: field 'choices' is .*, not what it is above for problem 'p'"):
        list(read(json_lines(rows), Options()))


def test_no_choices_are_none(json_lines):
    rows = [{"problem": "p", "answer": "5", "text": "x", "choices": listed} for listed in ([], None, "")]
    assert next(read(json_lines(rows), Options())).gold == "5"
