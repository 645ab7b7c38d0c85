from __future__ import annotations

import pytest

from prunebench.tasks.answers import answers_of
from prunebench.tasks.errors import UserError


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ('so the answer is clear.\n"ANSWER": "C"', "C"),
        ("ANSWER: (B)", "B"),
        ("Answer: D.", "D"),
        (r"thus \boxed{A}", "A"),
        (r'first "ANSWER": "A", no: \boxed{B}', "B"),
        (r'\boxed{B} or rather "ANSWER": "A"', "A"),
        ("the answer is A Big One", None),
        ("answer: unclear", None),
        ("", None),
    ],
)
def test_the_choice_that_a_text_states_last(text, letter):
    assert answers_of("choice").stated(text) == letter


@pytest.mark.parametrize(
    ("kind", "answer", "gold", "correct"),
    [
        ("choice", "c", "C", True),
        ("choice", "(C)", "C", True),
        ("choice", "B", "C", False),
        ("choice", "12", "C", False),
        ("text", "New  york", "new York", True),
        ("text", "York", "New York", False),
        ("integer", "025", "25", True),
        ("integer", "25.5", "25", False),
        ("math", r"\frac{9\sqrt{23}}{23}", r"9\sqrt{23}/23", True),
        ("math", None, "3", False),
        ("choice", None, "C", False),
        ("text", None, "x", False),
    ],
)
def test_answers_are_graded_by_their_type(kind, answer, gold, correct):
    assert answers_of(kind).grade(answer, gold).correct is correct


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("integer", ["7", "025", "1,000"], ["1/2", "x", ""]),
        ("choice", ["A", "(b)"], ["AB", ""]),
        ("text", ["x"], [" "]),
    ],
)
def test_gold_answers_of_another_type_are_seen(kind, good, bad):
    answers = answers_of(kind)
    assert all(map(answers.accepts, good)) and not any(map(answers.accepts, bad))


def test_equal_answers_share_a_class():
    assert answers_of("text").classes(["a b", None, "A  b", "c"]) == [0, -1, 0, 1]
    assert answers_of("choice").classes(["a", "(A)", "B", None]) == [0, 0, 1, -1]


def test_a_grader_of_ones_own_decides(tmp_path):
    (tmp_path / "parity.py").write_text(
        "def same(answer, gold):\n    return None if answer == '?' else int(answer) % 2 == int(gold) % 2\n"
        "def broken(answer, gold):\n    return 1 / 0\n"
        "def wordy(answer, gold):\n    return 'yes'\n"
    )
    own = answers_of("parity:same", tmp_path)
    assert own.grade("3", "5").correct is True and own.grade("4", "5").correct is False
    assert own.grade("?", "5").correct is None and own.grade(None, "5").correct is False
    assert own.grade("3", "5").grader == "parity:same"
    assert own.classes(["1", "2", None, "3"]) == [0, 1, -1, 0]
    with pytest.raises(UserError, match=r"grader parity:broken: ZeroDivisionError on '1' and '2'"):
        answers_of("parity:broken", tmp_path).grade("1", "2")
    with pytest.raises(UserError, match=r"grader parity:wordy: gave 'yes' on '1'; it must return True, False or None"):
        answers_of("parity:wordy", tmp_path).grade("1", "2")


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("number", "answer type 'number' is not known: write integer, math, choice, text, or module:function"),
        ("nowhere_at_all:f", "grader 'nowhere_at_all:f': No module named"),
        ("math:nothing_there", "a file math.py with a function nothing_there is wanted"),
    ],
)
def test_an_unknown_type_is_told(kind, told):
    with pytest.raises(UserError, match=told):
        answers_of(kind)
