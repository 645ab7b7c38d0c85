from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunebench.tasks import grading
from prunebench.tasks.grading import RULES, MathVerify, Reading, Verdict, boxed, classes, equal, number, read
from tests.tasks.grading_table import BOXES

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("text", "content"), BOXES)
def test_boxed_is_the_last_complete_box(text, content):
    assert boxed(text) == content


@pytest.mark.parametrize("piece", [r"\boxed{", r"\boxed{}", "{", "\\", r"\boxed ", r"\boxed{\{", "}{"])
def test_boxed_takes_linear_time(piece):
    """Four times as much text takes about four times as long, not sixteen: a ratio, whatever else the machine does."""

    def seconds(characters: int) -> float:
        text = piece * (characters // len(piece))
        times = []
        for _ in range(5):
            started = time.process_time()
            boxed(text)
            times.append(time.process_time() - started)
        return min(times)

    gc.disable()  # its passes over all that other tests left are not the function's
    try:
        assert seconds(200_000) < 10 * max(seconds(50_000), 1e-4)
    finally:
        gc.enable()


@given(st.text(alphabet="{}ab"), st.text(alphabet="ab \\{}"), st.text(alphabet="ab {"))
def test_a_box_around_balanced_braces_is_found_whatever_stands_around_it(before, inside, after):
    depth, balanced = 0, ""
    for character in inside.replace("\\", ""):
        if character != "}" or depth:
            depth += {"{": 1, "}": -1}.get(character, 0)
            balanced += character
    balanced += "}" * depth
    assert boxed(f"{before}\\boxed{{{balanced}}}{after}") == balanced.strip()


@given(st.integers(), st.integers(0, 5))
def test_a_number_is_itself_with_leading_zeros_and_separators(value, zeros):
    sign = "-" if value < 0 else ""
    assert number(f"{sign}{'0' * zeros}{abs(value)}") == value
    assert number(f"{value:,}") == value


@given(st.fractions(max_denominator=10**6))
def test_a_fraction_is_the_same_number_in_every_spelling(value):
    sign, top, bottom = "-" if value < 0 else "", abs(value.numerator), value.denominator
    whole, rest = divmod(top, bottom)
    for text in (
        f"{sign}{top}/{bottom}",
        rf"{sign}\frac{{{top}}}{{{bottom}}}",
        rf"\dfrac{{{sign}{top}}}{{{bottom}}}",
        rf"{sign}{whole}\frac{{{rest}}}{{{bottom}}}",
        f"{sign}{whole} {rest}/{bottom}",
        f"{sign}{top:,}/{bottom}",
        rf"{sign}\${top}/{bottom}",
        rf"{sign}{top}/{bottom}\text{{ cm}}",
    ):
        assert number(text) == value, text
    assert read(rf"{sign}{top}/{bottom}\%") == Reading("percent", value)


@given(st.integers(-(10**9), 10**9), st.integers(0, 6), st.integers(-30, 30))
def test_a_decimal_is_the_same_number_in_every_spelling(digits, places, power):
    value = Fraction(digits, 10**places)
    sign, (whole, rest) = "-" if digits < 0 else "", divmod(abs(digits), 10**places)
    plain = f"{sign}{whole}.{rest:0{places}d}" if places else f"{sign}{whole}"
    grouped = f"{sign}{whole:,}" + (f".{rest:0{places}d}" if places else "")
    for text in (plain, grouped, grouped.replace(",", " "), grouped.replace(",", r"\,"), f"{plain} kg", f"${plain}$."):
        assert number(text) == value, text
    for times in (r"\times", r" \cdot ", "*"):
        assert number(f"{plain}{times}10^{{{power}}}") == value * Fraction(10) ** power


def test_no_two_kinds_of_reading_hide_each_other():
    kinds = {
        "25": "number", r"25\%": "percent", "B": "choice", "Alice": "word", "xy": "letters", "2m": "no number",
        "x+1": "exact", "2e-3": "exact", "A or B": "exact", "abcd": "letters", r"\ge 5": "no number",
    }  # fmt: skip
    assert {answer: read(answer).kind for answer in kinds} == kinds
    assert all(equal(answer, other).correct is False for answer, other in combinations(["25", "B", "Alice", "xy"], 2))


ANSWERS = st.one_of(
    st.integers(-30, 30).map(str),
    st.sampled_from(["1/2", "0.5", r"50\%", "50", "(B)", "b", "A", "Yes", "yes", "NO", "12 cm", "12m", "", "$"]),
)


@given(ANSWERS, ANSWERS)
def test_plain_readings_are_symmetric_and_reflexive(first, second):
    settled = grading._settled(read(first), read(second))
    assert settled is grading._settled(read(second), read(first))
    assert grading._settled(read(first), read(first)) is (read(first).value != "")


@given(st.text(alphabet="0123456789 ,.$\\{}abx+-^/"))
def test_every_text_that_says_something_equals_itself(text):
    reading = read(text)
    assert equal(text, text) == Verdict(reading.value != "", f"{reading.kind} {RULES}")


@pytest.mark.parametrize("nothing", ["", " ", "$", "$$", ".", r"\text{}", r"\,"])
def test_an_answer_that_says_nothing_is_wrong_even_beside_its_like_and_has_no_class(nothing):
    assert equal(nothing, nothing).correct is False
    assert equal("0", nothing).correct is False
    assert classes([nothing, "0", nothing]) == [-1, 0, -1]


def test_plain_integers_start_no_process(monkeypatch):
    monkeypatch.setattr(grading, "_MATH_VERIFY", None)
    assert equal("007", "7") == Verdict(True, f"number {RULES}")
    assert equal("7", "7") == Verdict(True, f"number {RULES}")
    assert equal("8", "7") == Verdict(False, f"number {RULES}")
    assert equal("x+1", "x + 1") == Verdict(True, f"exact {RULES}")
    assert classes(["7", "007", None, "8", "7.0"]) == [0, 0, -1, 1, 0]


def test_a_verdict_names_the_grader_with_its_version():
    from importlib.metadata import version

    assert equal(r"\sqrt{4}", "2") == Verdict(True, f"math-verify {version('math-verify')} rules {RULES}")


def test_classes_are_numbered_by_first_appearance_and_see_through_latex():
    answers = [None, r"\frac{1}{2}", "3", "0.5", "1/2", r"\dfrac{1}{2}", "03", None, r"\sqrt{9}", "4"]
    assert classes(answers) == [-1, 0, 1, 0, 0, 0, 1, -1, 1, 2]


def test_answers_of_different_value_are_told_apart_without_comparing_them(monkeypatch):
    asked: list[set[str]] = []
    verify = MathVerify.verify
    monkeypatch.setattr(MathVerify, "verify", lambda self, a, b: asked.append({a, b}) or verify(self, a, b))
    answers = [r"\sqrt{2}", r"\sqrt{3}", "a+b+c", r"\frac{\sqrt{8}}{2}", "b+a+c", "2", "1+i", "a+b+d"]
    answers += ["1 + E[X", "1 + E[Y"]  # not read in full
    assert classes(answers) == [0, 1, 2, 0, 2, 3, 4, 5, 6, 7]
    assert asked == [{answers[0], answers[3]}, {answers[2], answers[4]}]


@pytest.fixture
def grader():
    grader = MathVerify(limit_seconds=0.5)
    yield grader
    grader.stop()


def test_a_hanging_expression_is_cut_and_the_next_one_is_graded(grader):
    assert grader.verify(r"\sqrt{4}", "2").correct is True
    before = os.times()
    assert grader.verify("9^{9^{9^{9}}}", "5").correct is None
    after = os.times()  # of the process that ended: seconds of computing, those in which it loaded everything included
    assert after.children_user - before.children_user < 10
    assert grader.value("9^{9^{9^{9}}}") == ()
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
    script.write_text("from prunebench.tasks.grading import equal\nprint(equal('\\\\sqrt{4}', '2').correct)\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_what_a_value_was_asked_of_changes_no_verdict():
    """Relations are remembered by the library behind: worked out, they are others for all who ask later."""
    grader = grading.MathVerify()
    before = grader.verify("x>1 and x<2", "1<x<2")
    assert grader.value("0<1<x<2") is None
    assert before.correct is True and grader.verify("x>1 and x<2", "1<x<2") == before
