from __future__ import annotations

import pytest

from prunebench.tasks.choices import Choices, choices_of, counted_from
from prunebench.tasks.errors import UserError
from prunebench.tasks.rows import DataRow

ROW = DataRow("a.jsonl", "line 1", {})


def of(value):
    return choices_of(ROW, "choices", value)


@pytest.mark.parametrize(
    ("value", "texts", "labels"),
    [
        (["x", " y "], ("x", "y"), ()),
        ([1, 2.5], ("1", "2.5"), ()),
        (["x", "y", None, ""], ("x", "y"), ()),
        (["A) 21", "B) 21.5"], ("21", "21.5"), ()),
        (["(a) red", "(b) blue"], ("red", "blue"), ()),
        (["A. one", "C. two"], ("A. one", "C. two"), ()),
        (["A", "B"], ("A", "B"), ()),
        ({"text": ["x", "y"], "label": ["1", "2"]}, ("x", "y"), ("1", "2")),
        ({"A": "x", "B": "y"}, ("x", "y"), ("A", "B")),
        ([{"label": "A", "text": "x"}, {"label": "B", "text": "y"}], ("x", "y"), ("A", "B")),
        ("['x', 'y']", ("x", "y"), ()),
        ('["x", "y"]', ("x", "y"), ()),
        ('{"A": "x", "B": "y"}', ("x", "y"), ("A", "B")),
    ],
)
def test_choices_are_read_as_sources_have_them(value, texts, labels):
    choices = of(value)
    assert (choices.texts, choices.labels) == (texts, labels)


@pytest.mark.parametrize("value", [None, "x|y", [], ["x"], "['x' 'y']", {"A": "x"}, [{"text": "x"}] * 2, 3, ["x"] * 27])
def test_what_is_no_list_of_choices_is_told(value):
    with pytest.raises(UserError, match=r"a\.jsonl, line 1: field 'choices' is .*, where a list of 2 to 26 choices is"):
        of(value)


@pytest.mark.parametrize(
    ("value", "answer", "start", "places"),
    [
        (["x", "y", "z"], "B", None, {1}),
        (["x", "y", "z"], "(b)", None, {1}),
        (["x", "y", "z"], "z", None, {2}),
        (["x", "y", "z"], "D", None, set()),
        (["x", "y", "z"], "", None, set()),
        (["x", "y", "z"], 2, 0, {2}),
        (["x", "y", "z"], "2", 1, {1}),
        (["x", "y", "z"], 3, 0, set()),
        (["x", "y", "z"], -1, 0, set()),
        (["1", "2", "3", "0"], 3, None, set()),  # a place, whatever a text says
        (["1", "2", "3", "0"], 3, 0, {3}),
        ([1, 2, 3, 0], 3, None, {2}),
        (["B", "A"], "A", None, {0, 1}),  # a letter, or a text
        (["A", "B"], "A", None, {0}),
        ({"text": ["3", "2"], "label": ["2", "3"]}, "3", None, {1}),
        ({"A": "x", "B": "A"}, "A", None, {0}),
        ({"A": "x", "B": "y"}, "y", None, {1}),
    ],
)
def test_an_answer_means_a_choice_by_letter_label_text_or_place(value, answer, start, places):
    assert of(value).places(answer, start) == places


WORDS = Choices(("w", "x", "y", "z"))
DIGITS = Choices(("1", "2", "3", "0"))


@pytest.mark.parametrize(
    ("answers", "start"),
    [
        ([(WORDS, 0), (WORDS, 3)], 0),
        ([(WORDS, "0"), (WORDS, "3")], 0),
        ([(WORDS, 4), (WORDS, 1)], 1),
        ([(DIGITS, 3), (DIGITS, 0)], 0),  # numbers beside texts are places
        ([(DIGITS, 3), (WORDS, "0")], 0),
        ([(WORDS, "B"), (WORDS, "x")], None),
        ([(Choices(("12", "14")), "12")], None),
        ([(Choices(("0", "1", "2")), "1"), (Choices(("0", "1", "2")), "0")], None),  # place and text are the same
        ([(Choices(("a", "b"), ("1", "2")), "1")], None),
        ([], None),
    ],
)
def test_the_answers_of_all_rows_tell_whether_they_are_places(answers, start):
    assert counted_from(answers) == start


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ([(WORDS, 1), (WORDS, 2)], "may be counted from 0 or from 1"),
        ([(WORDS, 0), (WORDS, 4)], "may be counted from 0 or from 1"),
        ([(DIGITS, "3"), (DIGITS, "1")], "may be texts of choices or their places"),
    ],
)
def test_where_the_answers_do_not_tell_nothing_is_guessed(answers, sentence):
    with pytest.raises(ValueError, match=sentence):
        counted_from(answers)


def test_a_choice_that_stands_there_twice_is_right_in_both_places():
    assert Choices(("x", "y", "x")).letters(2) == ["A", "C"]
