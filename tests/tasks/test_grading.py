from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import grading
from tasks.grading import MathVerify, Verdict, boxed, classes, equal, number

ROOT = Path(__file__).parents[2]

EQUAL = [
    # (gold, answer)
    ("25", "25"),
    ("25", "025"),
    ("025", "25"),
    ("25", " 25 "),
    ("25", "+25"),
    ("25", "25."),
    ("25", "25.0"),
    ("25", "$25$"),
    ("25", "$25$."),
    ("-7", "-007"),
    ("0", "-0"),
    ("0", "000"),
    ("1000", "1,000"),
    ("1000", "1{,}000"),
    ("1000", r"1\,000"),
    ("-1234567", "-1,234,567"),
    ("1234.5", "1,234.50"),
    ("0.75", "3/4"),
    ("3/4", "6/8"),
    ("3/4", ".75"),
    ("B", r"\text{B}"),
    (r"\frac{1}{2}", r"\dfrac{1}{2}"),
    (r"\frac{1}{2}", "0.5"),
    (r"\frac{3}{4}", "3/4"),
    (r"\frac{9\sqrt{23}}{23}", r"\frac{9 \sqrt{23}}{23}"),
    (r"\frac{9\sqrt{23}}{23}", r"9\sqrt{23}/23"),
    (r"\frac{9\sqrt{23}}{23}", r"\frac{9}{\sqrt{23}}"),
    (r"3+2\sqrt{2}", r"2\sqrt{2}+3"),
    (r"3+2\sqrt{2}", r"\left(1+\sqrt{2}\right)^2"),
    (r"\frac{\sqrt{13}}{2}", r"\frac12\sqrt{13}"),
    (r"2^{99}", "633825300114114700748351602688"),
    (r"2^{99}", r"2 \cdot 2^{98}"),
    (r"(1,2)", r"\left( 1, 2 \right)"),
    (r"\{1,2\}", r"\{2,1\}"),
    ("5", "x=5"),
    (r"(x+1)^2", "x^2+2x+1"),
]

DIFFERENT = [
    ("25", "52"),
    ("25", "-25"),
    ("25", "250"),
    ("25", "25.01"),
    ("25", ""),
    ("25", "twenty-six"),
    ("12", "1 2"),
    ("1234", "1, 234"),
    ("1234", "(1,234)"),
    ("(1,234)", "(1234)"),
    ("100", "1,00"),
    ("0.75", "4/3"),
    ("A", "B"),
    (r"(1,2)", r"(2,1)"),
    (r"3+2\sqrt{2}", r"3-2\sqrt{2}"),
    (r"\frac{9\sqrt{23}}{23}", r"\frac{9\sqrt{23}}{24}"),
    (r"2^{99}", "633825300114114700748351602689"),
]


@pytest.mark.parametrize(("gold", "answer"), EQUAL)
def test_equal_answers(gold, answer):
    assert equal(answer, gold).correct is True


@pytest.mark.parametrize(("gold", "answer"), DIFFERENT)
def test_different_answers(gold, answer):
    assert equal(answer, gold).correct is False


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (r"so \boxed{ 5 }", "5"),
        (r"\boxed{1} wait \boxed{2}", "2"),
        (r"\boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        (r"\boxed{3} and then \boxed{4", "3"),
        (r"\boxed{}", ""),
        ("no box", None),
        (r"\boxed{", None),
    ],
)
def test_boxed_is_the_last_complete_box(text, content):
    assert boxed(text) == content


@given(st.integers(), st.integers(0, 5))
def test_a_number_is_itself_with_leading_zeros_and_separators(value, zeros):
    sign = "-" if value < 0 else ""
    assert number(f"{sign}{'0' * zeros}{abs(value)}") == value
    assert number(f"{value:,}") == value


@given(st.text(alphabet="0123456789 ,.$\\{}abx+-^/"))
def test_every_text_equals_itself(text):
    assert equal(text, text) == Verdict(True, "exact 1")


def test_plain_integers_start_no_process(monkeypatch):
    monkeypatch.setattr(grading, "_MATH_VERIFY", None)
    assert equal("007", "7") == Verdict(True, "number 1")
    assert equal("7", "7") == Verdict(True, "exact 1")
    assert equal("8", "7") == Verdict(False, "number 1")
    assert classes(["7", "007", None, "8", "7.0"]) == [0, 0, -1, 1, 0]


def test_a_verdict_names_the_grader_with_its_version():
    from importlib.metadata import version

    assert equal(r"\sqrt{4}", "2") == Verdict(True, f"math-verify {version('math-verify')}")


def test_classes_are_numbered_by_first_appearance_and_see_through_latex():
    answers = [None, r"\frac{1}{2}", "3", "0.5", "1/2", r"\dfrac{1}{2}", "03", None, r"\sqrt{9}", "4"]
    assert classes(answers) == [-1, 0, 1, 0, 0, 0, 1, -1, 1, 2]


@pytest.fixture
def grader():
    grader = MathVerify(limit_seconds=0.5)
    yield grader
    grader.stop()


def test_a_hanging_expression_is_cut_and_the_next_one_is_graded(grader):
    assert grader.verify(r"\sqrt{4}", "2").correct is True
    started = time.perf_counter()
    assert grader.verify("9^{9^{9^{9}}}", "5").correct is None
    assert time.perf_counter() - started < 5
    assert grader.verify(r"\sqrt{4}", "2").correct is True


def test_a_process_that_was_killed_between_questions_is_started_again(grader):
    grader.verify(r"\sqrt{4}", "2")
    os.kill(grader._process.pid, signal.SIGKILL)
    grader._process.wait()
    assert grader.verify(r"\sqrt{4}", "2").correct is True


def test_threads_get_their_own_verdicts(grader):
    grader.limit_seconds = 10
    questions = [(rf"\sqrt{{{n * n}}}", str(n + n % 2)) for n in range(2, 18)]
    with ThreadPoolExecutor(4) as pool:
        verdicts = list(pool.map(lambda question: grader.verify(*question).correct, questions))
    assert verdicts == [n % 2 == 0 for n in range(2, 18)]


def test_a_script_without_a_main_guard_can_grade_and_hears_no_warnings(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("from tasks.grading import equal\nprint(equal('\\\\sqrt{4}', '2').correct)\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("True\n", "")
