from __future__ import annotations

import functools
import time
from collections import Counter

import math_verify
import pytest

from prunebench.tasks import grading
from prunebench.tasks.answer_types import answer_type_of
from prunebench.tasks.grading import LONGEST, MathVerify, classes, equal, read
from tests.tasks.grading_spellings import SPELLINGS
from tests.tasks.grading_table import GOLDS, HOSTILE, LIMITS, NOT_GRADED, Row
from tests.tasks.grading_table import ROWS as MEANINGS

ROWS = [*MEANINGS, *SPELLINGS]


class Remembering:
    """Math-Verify, asked once per question by all tests of the table."""

    def __init__(self, grader: MathVerify) -> None:
        self.verify, self.value = functools.cache(grader.verify), functools.cache(grader.value)


@pytest.fixture(scope="module", autouse=True)
def remembering():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grading, "_MATH_VERIFY", Remembering(grading._MATH_VERIFY))
        yield


def name(row: Row) -> str:
    return f"{row.gold} ~ {row.answer}"


def math_verify_alone(answer: str, gold: str) -> bool | None:
    """What Math-Verify says without our reading of either."""
    parsed_gold, parsed = (math_verify.parse(f"${text}$", parsing_timeout=None) for text in (gold, answer))
    if not parsed_gold or not parsed:
        return None
    return math_verify.verify(
        parsed_gold, parsed, float_rounding=12, allow_set_relation_comp=True, timeout_seconds=None
    )


every_row = pytest.mark.parametrize("row", ROWS, ids=name)


def test_the_table_is_large_and_says_nothing_twice():
    assert len(ROWS) >= 700
    pairs = Counter((row.gold, row.answer) for row in [*ROWS, *LIMITS])
    assert [pair for pair, count in pairs.items() if count > 1] == []


@every_row
def test_the_verdict_is_that_of_a_careful_grader(row):
    assert equal(row.answer, row.gold).correct is row.equal


@every_row
def test_gold_and_answer_can_be_exchanged_unless_the_row_says_why_not(row):
    assert equal(row.gold, row.answer).correct is (row.equal != bool(row.one_way))


@every_row
def test_equal_answers_share_a_class_and_different_ones_do_not(row):
    says_nothing = read(row.answer).value == ""
    assert classes([row.gold, row.answer]) == [0, 0 if row.equal else -1 if says_nothing else 1]


@every_row
def test_where_our_reading_overrules_math_verify_the_row_says_why(row):
    settled_by_us = not equal(row.answer, row.gold).grader.startswith("math-verify")
    overruled = settled_by_us and math_verify_alone(row.answer, row.gold) is not row.equal
    assert bool(row.differs) is overruled


@pytest.mark.parametrize("row", LIMITS, ids=name)
def test_a_known_limit_moves_into_the_table_when_it_falls(row):
    assert equal(row.answer, row.gold).correct is not row.equal


@pytest.mark.parametrize(("gold", "answer"), NOT_GRADED)
def test_what_has_two_meanings_or_is_not_read_is_neither_right_nor_wrong(gold, answer):
    assert equal(answer, gold).correct is None and equal(gold, answer).correct is None
    assert classes([gold, answer]) == [0, 1]


@pytest.mark.parametrize("gold", GOLDS)
def test_gold_answers_of_benchmarks_are_read_in_full(gold):
    assert answer_type_of("math").gold_in(gold) == gold
    assert grading._MATH_VERIFY.verify(gold, gold).correct is True


def spellings(rows: list[Row]) -> list[set[str]]:
    """Sets of answers that the rows connect as equal."""
    groups: list[set[str]] = []
    for row in rows:
        if row.equal:
            touched = [group for group in groups if group & {row.gold, row.answer}]
            groups = [group for group in groups if group not in touched]
            groups.append({row.gold, row.answer}.union(*touched))
    return groups


def contradicted(rows: list[Row]) -> list[Row]:
    """Rows that call different what others connect as equal."""
    groups = spellings(rows)
    return [row for row in rows if not row.equal and any({row.gold, row.answer} <= group for group in groups)]


PLAIN = [row for row in ROWS if not row.apart and not row.one_way]
GROUPS = sorted((sorted(group) for group in spellings(PLAIN) if len(group) > 2), key=len)


def test_the_table_is_transitive_but_for_the_rows_that_say_why():
    assert contradicted(PLAIN) == []
    both_ways = [row for row in ROWS if not row.one_way]
    for row in both_ways:
        if row.apart:
            assert len(contradicted([other for other in both_ways if other != row])) < len(contradicted(both_ways))


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group[0])
def test_answers_that_the_table_connects_are_one_class(group):
    assert classes(group) == [0] * len(group)
    assert classes(group[::-1]) == [0] * len(group)


def test_plain_answers_are_classed_without_a_process(monkeypatch):
    monkeypatch.setattr(grading, "_MATH_VERIFY", None)
    integers = [f"{n:03d}" for n in range(64)]
    assert classes(integers) == list(range(64))
    assert classes(["(A)", "B", r"\text{a}", "Yes", "yes", "No"]) == [0, 1, 0, 2, 2, 3]
    assert classes([r"50\%", "1/2", "12 cm", "B", "12"]) == [0, 0, 1, 2, 1]


@pytest.fixture(scope="module")
def impatient():
    grader = MathVerify(limit_seconds=0.3)
    yield grader
    grader.stop()


@pytest.mark.parametrize("answer", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_answer_is_never_right_and_costs_no_more_than_the_limit(answer, impatient, monkeypatch):
    monkeypatch.setattr(grading, "_MATH_VERIFY", impatient)
    impatient.verify("1", "2")  # the start of a process is no part of the limit
    started = time.perf_counter()
    assert equal(answer, "25").correct in (False, None)
    assert time.perf_counter() - started < impatient.limit_seconds + 2


@pytest.mark.parametrize(
    "answer",
    ["25\0", "25\ud800", "25" + "+0" * LONGEST, r"\frac{1}{2}+" * 8500],
    ids=["a null byte", "a lone surrogate", "a long sum", "100 kB"],
)
def test_what_no_one_can_read_is_not_graded_and_wakes_no_process(answer, monkeypatch):
    monkeypatch.setattr(grading, "_MATH_VERIFY", None)
    assert equal(answer, "25") == grading.Verdict(None, f"unreadable {grading.RULES}")
    assert equal("25", answer).correct is None
    assert classes(["25", answer, "25"]) == [0, 1, 0]
