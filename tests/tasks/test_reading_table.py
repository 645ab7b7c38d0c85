from __future__ import annotations

import time

import pytest

from prunebench.tasks.answer_types import answer_type_of
from tests.tasks.reading_table import ROWS


@pytest.mark.parametrize(("kind", "text", "answer", "rule"), ROWS)
def test_an_answer_is_found_where_a_person_would_find_it(kind, text, answer, rule):
    found = answer_type_of(kind).find(text)
    assert (found and found.answer, found and found.rule) == (answer, rule)


STRICT = [
    ("math", r"so \boxed{7}, see \boxed{}", None),
    ("math", r"\boxed{1}, \boxed{2}", "2"),
    ("math", r"<think>\boxed{7}</think>The answer is 8.", "7"),
    ("math", r"\fbox{7} The answer is 8.", None),
    ("math", r"we get \boxed{ 10 } and stop", "10"),
    ("text", "The answer is Paris.", None),
    ("choice", "The answer is (C).", None),
    ("choice", '"ANSWER": "C"', "C"),
    ("choice", r'\boxed{B} or rather "ANSWER": "A"', "A"),
    ("choice", "Answer: A carbon atom", None),
    ("choice", r"\boxed{5 m}", "5 m"),
]


@pytest.mark.parametrize(("kind", "text", "answer"), STRICT)
def test_a_strict_task_takes_what_its_prompt_asks_for_and_nothing_else(kind, text, answer):
    found = answer_type_of(kind).find(text, strict=True)
    assert (found and found.answer) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("the answer is 4", None),
        ("the answer is 4.", None),
        ("the answer is 4. ", "4"),
        ("the answer is $4$.\n", "4"),
        (r"\boxed 4", None),
        (r"\boxed{4}", "4"),
        ("42", None),
        ("**42**", None),
    ],
)
def test_a_prefix_has_stated_what_cannot_go_on(text, answer):
    found = answer_type_of("math").find(text, complete=False, last_number=True)
    assert (found and found.answer) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("We add 3 and 4. That makes 7 apples.", "7"),
        ("It is $1,250.50 in all", "$1,250.50"),
        ("about 3/4 of it", "3/4"),
        ("No number. At all", None),
        ("It was 5. Then it was gone.", None),
    ],
)
def test_the_last_number_counts_where_the_task_says_so(text, answer):
    answers = answer_type_of("math")
    assert answers.find(text) is None
    found = answers.find(text, last_number=True)
    assert (found and found.answer) == answer and (found is None or found.rule == "last number")


@pytest.mark.parametrize("kind", ["math", "choice", "text"])
@pytest.mark.parametrize(
    "piece",
    ["answer", "the answer is ", "answer****", "final ", "\\boxed{", "\\fbox 3 ", "#### 1\n", "<answer>", "$", "**a",
     "</think>", "\n", " ", "if the answer is 5.\n", "1,", "A and ", "option A is ", "\\[", "`"],
)  # fmt: skip
def test_long_texts_are_read_in_no_time(kind, piece):
    answers = answer_type_of(kind)
    started = time.perf_counter()
    answers.find(piece * (100_000 // len(piece)), last_number=kind == "math")
    assert time.perf_counter() - started < 5
