"""What the grader promises for any answer: what differs or is unread is not right, and merged votes are equal."""

from __future__ import annotations

import time
from itertools import combinations

import pytest
import sympy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prunebench.tasks.grading import MathVerify, classes, equal

SLOW = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))

LEAVES = st.one_of(
    st.integers(1, 12).map(lambda n: (sympy.Integer(n), (str(n), f"{{{n}}}", f"\\mathbf{{{n}}}"))),
    st.tuples(st.integers(1, 5), st.integers(2, 7)).map(
        lambda n: (sympy.Rational(*n), (rf"\frac{{{n[0]}}}{{{n[1]}}}", f"({n[0]}/{n[1]})", rf"\dfrac{n[0]}{n[1]}"))
    ),
    st.sampled_from([2, 3, 5, 6]).map(
        lambda n: (sympy.sqrt(n), (rf"\sqrt{{{n}}}", f"√{n}", f"sqrt({n})", f"{n}^{{1/2}}"))
    ),
    st.integers(1, 99).map(lambda n: (sympy.Rational(n, 100), (f"0.{n:02d}", f"{n}\\cdot 10^{{-2}}", f"({n}/100)"))),
    st.just((sympy.pi, (r"\pi", "π", "pi"))),
    st.just((sympy.E, ("e", r"\mathrm{e}", "exp(1)"))),
)


def joined(parts):
    (first, firsts), (second, seconds), operator = parts
    value = {"+": first + second, "-": first - second, "*": first * second, "/": first / second, "^": first**2}[
        operator
    ]
    forms = {
        "+": "({})+({})", "-": "({})-({})", "*": "({})({})", "/": r"\frac{{{}}}{{{}}}", "^": "({})²",
    }  # fmt: skip
    others = {"+": "{} + ({})", "-": "{} - ({})", "*": "({})·({})", "/": "({})/({})", "^": "({})^2"}
    pairs = list(zip(firsts, seconds, strict=False))
    return value, tuple(form[operator].format(*pair) for form in (forms, others) for pair in pairs)[:4]


EXPRESSIONS = st.recursive(
    LEAVES, lambda inner: st.tuples(inner, inner, st.sampled_from("+-*/^")).map(joined), max_leaves=4
)


def apart(first, second):
    return abs(sympy.N(first - second, 60, maxn=400)) > sympy.Float("1e-50")


@SLOW
@given(EXPRESSIONS, EXPRESSIONS, st.data())
def test_expressions_of_different_value_are_never_right(first, second, data):
    answer, gold = (data.draw(st.sampled_from(spellings)) for _, spellings in (first, second))
    if apart(first[0], second[0]):
        assert equal(answer, gold).correct is not True, (answer, gold)


@SLOW
@given(EXPRESSIONS, st.data())
def test_two_spellings_of_one_expression_are_never_wrong(expression, data):
    first, second = (data.draw(st.sampled_from(expression[1])) for _ in range(2))
    assert equal(first, second).correct is not False, (first, second)


@SLOW
@given(st.integers(20, 400), st.integers(1, 9))
def test_numbers_that_differ_by_little_are_told_apart_however_small(power, top):
    assert equal(rf"\frac{{{top}}}{{2^{{{power}}}}}", rf"\frac{{{top}}}{{2^{{{power + 1}}}}}").correct is False
    assert equal(rf"\sqrt{{2}}+2^{{-{power}}}", r"\sqrt{2}").correct is not True
    assert equal(rf"\frac{{{2 * top}}}{{2^{{{power + 1}}}}}", rf"\frac{{{top}}}{{2^{{{power}}}}}").correct is True


BOUNDS = st.sampled_from(["-3", "-1", "0", r"\frac{1}{2}", "1", "0.5", r"\sqrt{2}", "2", r"\pi", "4"])


@SLOW
@given(st.lists(st.integers(1, 30), min_size=2, max_size=3), st.lists(st.integers(1, 30), min_size=2, max_size=3))
def test_ratios_are_right_where_their_numbers_are_in_proportion(first, second):
    in_proportion = len(first) == len(second) and all(
        a * second[0] == b * first[0] for a, b in zip(first, second, strict=True)
    )
    verdict = equal(":".join(map(str, first)), ":".join(map(str, second))).correct
    assert verdict in ((True, None) if in_proportion else (False,))
    assert verdict is not None or min(first[1], second[1]) > 9, "only what may be a time of day is not told"


@SLOW
@given(BOUNDS, BOUNDS, BOUNDS, BOUNDS, st.sampled_from("<≤"), st.sampled_from("<≤"))
def test_inequalities_are_right_where_they_hold_for_the_same_numbers(a, b, c, d, first, second):
    def holds(low, high, one, two):
        plain = {r"\frac{1}{2}": "1/2", "0.5": "1/2", r"\sqrt{2}": "sqrt(2)", r"\pi": "pi"}
        values = [sympy.sympify(plain.get(bound, bound)) for bound in (low, high)]
        return sympy.Interval(*values, one == "<", two == "<")

    flipped = {"<": ">", "≤": "≥"}
    chain, falling = f"{a}{first}x{second}{b}", f"{d}{flipped[second]}x{flipped[first]}{c}"
    between = holds(a, b, first, second)
    if between != sympy.EmptySet:
        same = between == holds(c, d, first, second)
        assert equal(falling, chain).correct in ((True, None) if same else (False, None))
    joined, union = f"x{first}{a} or x{flipped[second]}{b}", f"x{flipped[second]}{d} or x{first}{c}"
    same = sympy.Union(holds("-oo", a, "<", first), holds(b, "oo", second, "<")) == sympy.Union(
        holds("-oo", c, "<", first), holds(d, "oo", second, "<")
    )
    assert equal(union, joined).correct in ((True, None) if same else (False, None))


TOKENS = [
    "!", "x", "y", "i", "²", "³", "^2", "_7", "^{-1}", "√2", r"\sqrt{2}", "π", "pi", r"\pi", "+1", "-1", "·2", "*3",
    "/2", "...", r"\ldots", ", 1", "; 3", r"\text{ or }8", r"\text{ million}", r"\text{ factorial}", r"\mathrm{i}",
    "∞", "½", r"\overline{3}", r"\cup\{1\}", "<x", "=7", ":2", "'", r"\pmod{7}", r"\circ 2", r"\%+1", "e3",
    "×10⁶", "(2)", "[1]", "!!",
]  # fmt: skip


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize("right", ["4", r"\frac{3}{4}", r"2\sqrt{3}", r"5\pi", "x+3", "(1,2)"])
def test_a_token_behind_a_right_answer_never_leaves_it_right(right, token):
    assert equal(right, right).correct is True
    assert equal(right + token, right).correct is not True
    assert equal(right, right + token).correct is not True


@SLOW
@given(
    st.sampled_from(["7", r"\frac{1}{3}", r"\sqrt{5}", "2n-1"]), st.text("0123456789abcxyz+-*/^_!()√²³½π", min_size=1)
)
def test_what_is_put_behind_an_answer_is_read_or_the_verdict_is_not_right(right, rest):
    other = right + rest
    if equal(other, right).correct:  # then the whole of it says the same: 7+0, 7^1, 7*1
        value = other.replace("²", "**2").replace("³", "**3").replace("^", "**")
        assert any(sign in rest for sign in "+-*/^²³()!") or value.strip() == right, other


POOL = [
    "4", "4.0", "8/2", r"\sqrt{16}", "2²", "x=4", "n=4", "400%", "4%", "0.04", "1,2", "(1,2)", "(2,1)", r"\{1,2\}",
    "2,1", "y=2x+1", "2x+1", "2x-y+1=0", r"\frac12", "50%", "50", "0.5", "½", "x>5", r"(5,\infty)", r"\{x|x>5\}",
    "2516_7", "2516", "944", "0.(3)", "1/3", "0.333", "C", "(C) 4", "i", "e", r"\pi", "3.14", r"2^{-98}", r"2^{-99}",
    "0", "m+n=4", "4+x", "4x",
]  # fmt: skip


def test_equality_is_symmetric_over_a_pool():
    unlike = [pair for pair in combinations(POOL, 2) if equal(*pair).correct is not equal(*pair[::-1]).correct]
    assert unlike == []


@SLOW
@given(st.lists(st.sampled_from(POOL), min_size=2, max_size=12))
def test_any_two_answers_whose_votes_merge_are_equal(answers):
    numbers = classes(answers)
    for (first, one), (second, other) in combinations(zip(answers, numbers, strict=True), 2):
        if one == other:
            assert equal(first, second).correct is True, (first, second)


@pytest.mark.parametrize(
    "hostile",
    [
        "√" * 50_000, "²" * 100_000, r"\textcolor{red}{" * 6_000, r"\sqrt{" * 160, "(" * 900, "½" * 900,
        "{" * 500 + "}" * 500,
        "1_" * 500, r"\text{" * 150 + "4" + "}" * 150, r"\frac" * 200, "^2" * 400, "|" * 999, r"\overline{3}" * 80,
        "9^" * 400 + "9", r"\{x|" * 200, "e" * 1000, ", ".join("123456789" * 10), "\u200b" * 100_000,
    ],
    ids=range(18),
)  # fmt: skip
def test_hostile_spellings_end_within_the_limit_and_are_not_right(hostile, monkeypatch):
    grader = MathVerify(limit_seconds=1.0)
    monkeypatch.setattr("prunebench.tasks.grading._MATH_VERIFY", grader)
    grader.verify("1", "2")
    started = time.perf_counter()
    assert equal(hostile, "4").correct is not True
    assert time.perf_counter() - started < 5
    grader.stop()
