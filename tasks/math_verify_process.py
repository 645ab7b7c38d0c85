"""Math-Verify in a process of its own: ``python math_verify_process.py`` answers one JSON line per JSON line.

A request is [answer, gold, in full, seconds], a reply is [true | false | null]; without a gold answer the reply is the
value of the answer, [real part, imaginary part], [] or null. In full, answer and gold come in the spelling of
:mod:`tasks.expression`: the parser reads the whole of an expression or nothing, the comparison is Math-Verify's, with
exact numbers in place of rounded ones and the same verdict when gold and answer change places. Otherwise Math-Verify
reads what it can, and can only find them different. The process sets itself an alarm for every request, in seconds of
its own computing so that no verdict depends on what else the machine does, and lets it kill: some expressions hang
inside compiled code, where no exception would reach them. Run as a file, it imports nothing of this project and does
not run the caller's script again.
"""

from __future__ import annotations

import functools
import json
import logging
import re
import signal
import sys
import zlib
from typing import Any

START_SECONDS = 60.0
DIGITS = 100
"""Numbers that no exact arithmetic settles are compared to this many digits, relative to their size."""
TOLD, LEAST = 40, 1e-30
"""A value is told in so many digits, unless it is smaller: then it may be 0."""
OPTIONS = {
    "allow_set_relation_comp": True,  # x > 5 answers (5, infinity) as well as the other way round
    "timeout_seconds": None,
}
_MARKED = re.compile(r"\\text\{[^{}]*\}|\\[A-Za-z]+(?: ?\{(?:[pbv]?matrix|[RZNQC])\})?|\d+|[A-Za-z]")
PLAIN_LOG = r"\log_{?}"
"""A logarithm without its base, as :mod:`tasks.expression` writes it."""
LARGE_BITS = 100
"""Numbers with more bits can make a difference that is smaller than ``DIGITS`` digits show."""


class UndecidedError(Exception):
    """Nobody can say whether two values are the same, or what an expression is."""


def parsed(text: str) -> Any:
    """The parser's reading of the whole ``text``. Raises what it raises, and UndecidedError if anything is left."""
    from latex2sympy2_extended.latex2sympy2 import ConversionConfig, _Latex2Sympy

    converter = _Latex2Sympy(None, True, False, ConversionConfig(lowercase_symbols=False))
    parsers = []

    def remembered(source: str, create: Any = converter.create_parser) -> Any:
        parsers.append(create(source))
        return parsers[-1]

    converter.create_parser = remembered
    reading = converter.parse(text)
    if any(parser.getTokenStream().LA(1) != -1 for parser in parsers):
        raise UndecidedError("the parser stopped before the end")
    return reading


@functools.lru_cache(maxsize=4096)
def accounts(text: str) -> bool:
    """Whether every number and letter counts: each becomes a symbol of its own, and all must be in the reading."""
    from sympy import srepr

    marks: list[str] = []

    def mark(found: re.Match[str]) -> str:
        if found[0].startswith("\\") and not found[0].startswith("\\text"):
            return found[0]
        marks.append(f"q{len(marks)}q")
        return f"\\text{{{marks[-1]}}}"

    marked = _MARKED.sub(mark, text)
    try:
        written = srepr(parsed(marked))
    except Exception:  # what cannot be read in symbols was read in numbers all the same
        return False
    return all(mark in written for mark in marks)


@functools.lru_cache(maxsize=4096)
def reading(text: str) -> Any:
    """What ``text`` means; i among numbers only is the imaginary unit. Raises UndecidedError where that is nothing."""
    import sympy

    value = parsed(text)
    if value is sympy.nan or value is sympy.zoo:
        raise UndecidedError("no value")
    if isinstance(value, sympy.Union | sympy.Intersection | sympy.Complement):
        value = value.doit()
    imaginary = sympy.Symbol("i", real=True)
    if getattr(value, "free_symbols", set()) == {imaginary}:
        value = value.subs(imaginary, sympy.I)
    return value


def same_value(first: Any, second: Any, *_: object) -> bool:
    """Whether two expressions are the same number or, with variables, the same function. Exact where both are exact.

    Stands in for Math-Verify's comparison, which rounds to so many places: to it all small numbers are 0.
    """
    import sympy

    if isinstance(first, sympy.MatrixBase) and isinstance(second, sympy.MatrixBase):
        return first.shape == second.shape and all(map(same_value, first.flat(), second.flat()))
    if not isinstance(first, sympy.Expr) or not isinstance(second, sympy.Expr):
        return False
    if first.free_symbols != second.free_symbols and not (first.free_symbols and second.free_symbols):
        first, second = sympy.simplify(first.doit()), sympy.simplify(second.doit())
    if first.free_symbols or second.free_symbols:
        difference = sympy.simplify((first - second).doit())
        return bool(difference == 0) or _worked_out(difference)
    first, second = first.doit(), second.doit()
    if first == second:
        return True
    _worked_out(first - second)
    if (first.is_Rational and second.is_Rational) or sympy.oo in (first, second) or -sympy.oo in (first, second):
        return False
    difference, size = (first - second).evalf(DIGITS), abs(first.evalf(DIGITS)) + abs(second.evalf(DIGITS))
    if not size.is_comparable or not size.is_finite:  # as 1/(pi - pi), of which any difference is a small part
        raise UndecidedError("no number")
    if abs(difference) > size * sympy.Float(10, DIGITS) ** (20 - DIGITS):
        return False
    if any(max(abs(number.p), number.q).bit_length() > LARGE_BITS for number in (first - second).atoms(sympy.Rational)):
        if sympy.simplify(first - second) == 0:
            return True
        raise UndecidedError("too close to tell")
    return True


def _worked_out(difference: Any) -> bool:
    """False, as a difference that is not 0 says. Raises UndecidedError where a sum or an integral is left in it."""
    import sympy

    if difference.has(sympy.Sum, sympy.Product, sympy.Integral, sympy.Piecewise):
        raise UndecidedError("not worked out")
    return False


def named(value: Any) -> bool:
    """Whether an equation gives its right side: what stands left is a name (``x``, ``m+n``, ``f(x)``) or its value."""
    from latex2sympy2_extended.logic import And
    from sympy import Add, Eq, Mul, Symbol, Tuple
    from sympy.core.function import AppliedUndef

    if isinstance(value, And):
        return all(isinstance(each, Eq) for each in value._unsorted_args) and named(value._unsorted_args[0])
    left = value.lhs
    if not left.free_symbols:
        return same_value(left, value.rhs)
    parts = left.args if isinstance(left, (Add, Mul, Tuple)) else (left,)
    return all(isinstance(part, (Symbol, AppliedUndef)) for part in parts)


def comparable(first: Any, second: Any) -> bool:
    """Whether an equation among the two is one that may be taken for its right side, where only one is an equation."""
    from math_verify.grader import is_equation

    if is_equation(first) == is_equation(second):
        return True
    return named(first if is_equation(first) else second)


def either_way(first: Any, second: Any) -> bool:
    """Whether Math-Verify takes one for the other, whichever is the gold answer."""
    import math_verify

    forth = math_verify.verify(first, second, raise_on_error=True, **OPTIONS)
    back = math_verify.verify(second, first, raise_on_error=True, **OPTIONS)
    return bool(forth or back)


def verify(answer: str, gold: str) -> bool | None:
    """Whether ``answer`` means ``gold``, whatever base logarithms without one have; None where it depends on that."""
    if PLAIN_LOG not in answer + gold:
        return same(answer, gold)
    verdicts = {same(answer.replace(PLAIN_LOG, log), gold.replace(PLAIN_LOG, log)) for log in (r"\ln", r"\log_{10}")}
    return verdicts.pop() if len(verdicts) == 1 else None


def same(answer: str, gold: str) -> bool | None:
    """Whether ``answer`` means ``gold``; None when one of them cannot be read in full, or nobody can tell."""
    try:
        values = [reading(gold), reading(answer)]
        if not comparable(*values):
            return None if len(values[0].free_symbols | values[1].free_symbols) < 2 else False  # a curve is no number
        if not either_way(*values):
            return False
        in_full = accounts(answer) and accounts(gold) and {ordered(answer), ordered(gold)} != {"(", "{"}
        return True if in_full else None
    except Exception:  # whatever a foreign parser raises means: could not be graded
        return None


def different(answer: str, gold: str) -> bool | None:
    """False where even what Math-Verify makes of parts of the two differs, else None: a part never makes it right."""
    import math_verify

    try:
        parsed_gold, parsed_answer = (
            math_verify.parse(f"${text}$", parsing_timeout=None, raise_on_error=True) for text in (gold, answer)
        )
        if not parsed_gold or not parsed_answer:
            return None
        return None if either_way(parsed_gold, parsed_answer) else False
    except Exception:  # as above
        return None


def value(text: str) -> list[str] | None:
    """Real and imaginary part, in digits, of what the whole ``text`` is when its variables have set values.

    Each variable stands for a number that goes by its name, so that two texts of different values are different
    numbers or functions. None for what is no expression, and about 0; empty for what is not read in full, which is
    never found equal to anything.
    """
    import sympy

    if PLAIN_LOG in text:
        return None
    try:
        meant = reading(text)
        in_full = accounts(text)
    except Exception:  # as above
        in_full = False
    if not in_full:
        return []
    if not isinstance(meant, sympy.Expr):  # to work out relations would reorder them for all who ask later
        return None
    try:
        meant = meant.doit()
        set_to = {symbol: sympy.Rational(zlib.crc32(str(symbol).encode()), 2**32) + 1 for symbol in meant.free_symbols}
        parts = meant.subs(set_to).evalf(DIGITS).as_real_imag()
        size = sum(map(abs, parts))
        if not size.is_Float or not all(part.is_Float or part == 0 for part in parts) or size < LEAST:
            return None
        return [str(part.evalf(TOLD)) for part in parts]
    except Exception:  # it was read, but is worth no number
        return None


def ordered(text: str) -> str:
    """The bracket around the whole of ``text``, if any: ``(`` for what has an order, ``{`` for what has none."""
    text = text.strip()
    return "{" if text.startswith(r"\{") and text.endswith(r"\}") else text[0] if text[-1] in ")]" else ""


def prepare() -> None:
    """Loads everything, and puts exact comparison in the place of rounding."""
    import math_verify.grader

    math_verify.grader.sympy_numeric_eq = same_value
    math_verify.grader.sympy_symbolic_eq = same_value


def serve() -> None:
    replies, sys.stdout = sys.stdout, sys.stderr  # what a library prints is no reply
    logging.disable(logging.WARNING)  # math-verify warns that its own timeouts are off
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle; its end closes our input
    signal.setitimer(signal.ITIMER_PROF, START_SECONDS)
    prepare()
    verify("1", "2")  # loads everything outside of the first request's time
    signal.setitimer(signal.ITIMER_PROF, 0)
    print("[null]", file=replies, flush=True)
    for line in sys.stdin:
        answer, gold, in_full, seconds = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, seconds)
        reply = value(answer) if gold is None else [verify(answer, gold) if in_full else different(answer, gold)]
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    serve()
