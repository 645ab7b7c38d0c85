"""Grading of final answers: by our own reading where that settles it, else by Math-Verify in a process with a limit."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import cached_property, lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from prunebench.tasks.answering_process import AnsweringProcess
from prunebench.tasks.expression import expression, unsure
from prunebench.tasks.spelling import SQUARED, UNIT, UnreadError, tidy

LIMIT_SECONDS = 5.0
LONGEST = 1000
"""Math-Verify sees no more characters than this: what is longer is no final answer and would only use up its time."""
SAME_SHARE = Decimal("1e-30")
"""Values that differ by a larger share of their size are not compared as expressions."""
RULES = "4"
"""The version of our own rules and of how Math-Verify is asked, as verdicts carry it: raised when they change."""

_BRACES = re.compile(r"(\\{1,2}boxed\s*\{)|\\.|[{}]", re.DOTALL)  # an escaped brace opens and closes nothing
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")

_LOOSE = re.compile(r"(?<!\w) | (?!\w)")  # blanks except those between two words or numbers: "1 2" is not "12"

_DECIMAL = r"(?:(?:\d{1,3}(?:,\d{3})+|\d{1,3}(?: \d{3})+|\d+)(?:\.\d*)?|\.\d+)"
_POWER = r"(?P<power>[+-]?\d{1,3}|\{ ?[+-]?\d{1,3} ?\})"
_AMOUNTS = [
    re.compile(form)
    for form in (
        rf"(?P<top>{_DECIMAL})",
        r"(?P<top>\d+(?:,\d{3})*(?:\.\d*)?|\.\d+) ?/ ?(?P<bottom>\d+)",
        r"(?P<whole>\d+) (?P<top>\d+) ?/ ?(?P<bottom>\d+)",
        r"\\frac ?(?P<top>\{ ?[+-]?\d+ ?\}|\d) ?(?P<bottom>\{ ?[+-]?\d+ ?\}|\d)",
        r"(?P<whole>\d+) ?\\frac ?(?P<top>\{ ?\d+ ?\}|\d) ?(?P<bottom>\{ ?\d+ ?\}|\d)",
        rf"(?P<top>{_DECIMAL}) ?(?:\\times|\\cdot|[×*x]) ?10 ?\^ ?{_POWER}",
        r"(?P<top>\d+)[eE](?P<power>\d{1,3})",
        r"(?P<top>\d+)(?:E(?=[+-])|e(?=[+-]0\d$))(?P<power>[+-]\d{1,3})",  # 2e-3 may be twice e less 3
        r"(?P<top>\d+\.\d+)[eE](?P<power>[+-]?\d{1,3})",
    )
]
_SCALES = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12}
_ANGLE = r" ?(?:°|\^ ?\\circ|\^ ?\{ ?\\circ ?\}|(?<![A-Za-z])deg(?:ree)?s?)"
_UNITS = (  # a single letter without a blank before it is a variable: 12m
    rf"(?: ?(?:(?:square|cubic|sq) )?{UNIT}| [mgshL]){SQUARED}(?: ?(?:/|per) ?(?:{UNIT}|[mgsh]){SQUARED})?"
)
_MEASURED = re.compile(
    r"(?P<sign>[+-]?) ?[$€£¥]? ?(?P<amount>.+?)"
    rf"(?: (?P<scale>{'|'.join(_SCALES)}))?(?:(?P<percent> ?(?:\\?%|percent))|(?P<angle>{_ANGLE})|{_UNITS})?"
)
_E_NOTATION = re.compile(r"([+-]?\d+)e([+-]\d{1,3})")
_CLOCK = re.compile(r"(?:[01]?\d|2[0-4])(?::[0-5]\d){1,2}")
_CHOICE = re.compile(r"\(?([A-Ha-h])\)?")
_NO_NUMBER = re.compile(
    r"[+-]?\d+(?:\.\d+)?[A-Za-z]{1,3}|[+-]?\d*\.\d+ ?(?:\.\.+|…|\\l?dots)"
    r"|(?:\\[gl]eq?(?![A-Za-z])|[<>≤≥]).*|.* or (?:more|less|fewer)"
)
_LETTERS = re.compile(r"(?!.* (?:and|or) )[A-Za-z]+(?: [A-Za-z]+)*")
_WORD = re.compile(r"[A-Z][a-z]{2}|[A-Za-z]{5}|(?i:^(?:yes|no|true|false|none|even|odd)$)")
_PLAIN = {"number", "percent", "degrees", "base", "ratio", "choice", "word"}
"""A reading of these kinds is all there is to know about the answer."""


@dataclass(frozen=True)
class Verdict:
    """``correct`` is None when the answer could not be graded; ``grader`` names who said so, with its version."""

    correct: bool | None
    grader: str


@dataclass(frozen=True)
class Reading:
    """What an answer plainly is. Equal readings are equal answers; ``exact`` is what has no plainer reading.

    ``letters`` may be a word or a product of variables; ``no number`` begins like a number and goes on (``2m``,
    ``0.3...``) or bounds one (``>5``, ``5 or more``); a ``clock`` may be a ratio or a time of day.
    """

    kind: Literal[
        "number", "percent", "degrees", "base", "ratio", "clock", "choice", "word", "letters", "no number", "exact"
    ]
    value: Fraction | str


def boxed(text: str) -> str | None:
    r"""The content of the last complete ``\boxed{...}``, stripped; None when there is none. Linear in the text."""
    opened: list[re.Match[str]] = []
    last, end = None, 0
    for brace in _BRACES.finditer(text):
        if brace[0] == "{" or brace[1]:
            opened.append(brace)
        elif brace[0] == "}" and opened:
            start = opened.pop()
            if start[1] and (last is None or start.start() > last.start()):
                last, end = start, brace.start()
    return None if last is None else text[last.end() : end].strip()


_REPEATING = re.compile(
    r"(?P<whole>\d*)\.(?P<start>\d*) ?(?:\\(?:overline|bar|dot) ?\{? ?(?P<barred>\d+) ?\}?|\((?P<bracketed>\d+)\))"
)
_BASE = re.compile(r"\(?(?P<digits>[0-9A-Za-z]{2,})\)? ?_ ?(?:(?P<digit>[2-9])|\{ ?(?P<base>[2-9]|[12]\d|3[0-6]) ?\})")


def _repeating(text: str) -> Fraction | None:
    r"""The value of a decimal whose last digits repeat: ``0.1\overline{6}``, ``0.1(6)``."""
    decimal = _REPEATING.fullmatch(text)
    if decimal is None:
        return None
    start, period = decimal["start"], decimal["barred"] or decimal["bracketed"]
    tail = Fraction(int(start or 0)) + Fraction(int(period), 10 ** len(period) - 1)
    return int(decimal["whole"] or 0) + tail / Fraction(10) ** len(start)


def _in_base(text: str) -> Reading | None:
    """What digits with an index are worth; None where a digit is too large for the base."""
    number = _BASE.fullmatch(text)
    try:
        return (
            None
            if number is None
            else Reading("base", Fraction(int(number["digits"], int(number["digit"] or number["base"]))))
        )
    except ValueError:
        return None


def _ratio(text: str) -> Reading | None:
    """Numbers with colons between them: what each is to the first, or what a clock shows."""
    if ":" not in text:
        return None
    if _CLOCK.fullmatch(text):
        return Reading("clock", ":".join(str(int(part)) for part in text.split(":")))
    try:
        values = [_amount(part.strip()) for part in text.split(":")]
    except (ValueError, ZeroDivisionError):
        return None
    if not all(values):  # a part that is none, or nothing
        return None
    return Reading("ratio", ":".join(str(value / values[0]) for value in values if value and values[0]))


def _as_ratio(clock: str) -> str | None:
    """The ratio that a clock's digits would be."""
    first, *others = map(int, clock.split(":"))
    return ":".join(["1", *(str(Fraction(other, first)) for other in others)]) if first and all(others) else None


def _amount(text: str) -> Fraction | None:
    """The unsigned rational that ``text`` writes: integer, decimal, fraction, mixed number or scientific notation."""
    amount = next(filter(None, (form.fullmatch(text) for form in _AMOUNTS)), None)
    if amount is None:
        return _repeating(text)
    part = {name: Fraction(re.sub(r"[{}, ]", "", digits)) for name, digits in amount.groupdict().items() if digits}
    fraction = part["top"] / part.get("bottom", 1) * Fraction(10) ** int(part.get("power", 0))
    if "whole" in part and fraction >= 1:  # 12 345/7 is no mixed number
        return None
    return part.get("whole", Fraction(0)) + fraction


def _measured(text: str) -> Reading | None:
    """A number, maybe with a currency, a scale (``million``), a percent sign or a unit; units are not graded."""
    parts = _MEASURED.fullmatch(text)
    try:
        value = None if parts is None else _amount(parts["amount"])
    except (ValueError, ZeroDivisionError):  # more digits than Python converts; a fraction over 0
        value = None
    if parts is None or value is None:
        return None
    value *= (-1 if parts["sign"] == "-" else 1) * _SCALES.get(parts["scale"], 1)
    return Reading("percent" if parts["percent"] else "degrees" if parts["angle"] else "number", value)


def read(answer: str) -> Reading:
    """The plainest reading of an answer; the value is empty when it says nothing."""
    text = tidy(answer)
    exact = Reading("exact", _LOOSE.sub("", text))
    if len(text) > LONGEST:
        return exact
    if measured := _measured(text):
        return measured
    if based := _in_base(text) or _ratio(text):
        return based
    if choice := _CHOICE.fullmatch(text):
        return Reading("choice", choice[1].upper())
    if _NO_NUMBER.fullmatch(text):
        return Reading("no number", text)
    if _LETTERS.fullmatch(text):
        return Reading("word", text.casefold()) if _WORD.search(text) else Reading("letters", text)
    return exact


def number(answer: str) -> Fraction | None:
    r"""The rational number that ``answer`` plainly writes (``025``, ``1,000``, ``-\frac34``, ``12 cm``), else None."""
    reading = read(answer)
    return reading.value if reading.kind in ("number", "degrees") and isinstance(reading.value, Fraction) else None


def _settled(ours: Reading, theirs: Reading) -> bool | None:
    """Whether two readings are equal, as far as they tell: None where Math-Verify has to look at the answers."""
    if "" in (ours.value, theirs.value):
        return False
    if ours == theirs:
        return True
    if ours.kind == theirs.kind == "clock":
        return None if _as_ratio(str(ours.value)) == _as_ratio(str(theirs.value)) else False
    if ours.kind == theirs.kind:
        return False if ours.kind in _PLAIN else None
    match {ours.kind: ours.value, theirs.kind: theirs.value}:
        case {"number": Fraction() as plain, "percent": Fraction() as percent}:
            return plain in (percent, percent / 100)  # 50 % is an answer to "what percentage" and to "what share"
        case {"number": plain, "degrees": angle}:
            return plain == angle  # without the sign, the same angle
        case {"word": str() as word, "letters": str() as letters}:
            return word == letters.casefold()
        case {"number": plain, "base": based}:
            return True if plain == based else None  # digits without their index may be meant in the same base
        case {"clock": str() as clock, "ratio": ratio}:
            return _as_ratio(clock) == ratio
        case {"number": Fraction() as plain, "ratio": str() as ratio}:
            return None if plain and ratio == f"1:{1 / plain}" else False
        case {"no number": _, "number": _} | {"no number": _, "percent": _} | {"no number": _, "degrees": _}:
            return False
    return False if {ours.kind, theirs.kind} <= _PLAIN else None


def _power_of_ten(reading: Reading) -> Fraction | None:
    """What a program means by ``2e-3``, which may as well be twice e less 3."""
    written = _E_NOTATION.fullmatch(str(reading.value)) if reading.kind == "exact" else None
    return int(written[1]) * Fraction(10) ** int(written[2]) if written else None


def _verdict(answer: str, ours: Reading, gold: str, theirs: Reading) -> Verdict:
    settled = _settled(ours, theirs)
    if settled is not None:
        return Verdict(settled, f"{theirs.kind} {RULES}")
    two_meanings = theirs.value == _power_of_ten(ours) or ours.value == _power_of_ten(theirs)
    if two_meanings or _unreadable(answer) or _unreadable(gold):
        return Verdict(None, f"unreadable {RULES}")
    if {ours.kind, theirs.kind} == {"base", "number"}:
        return _MATH_VERIFY.verify(answer, gold)  # the same digits, or others?
    verdict = _MATH_VERIFY.verify(_spelt(answer, ours), _spelt(gold, theirs))
    if verdict.correct is False and "degrees" in (ours.kind, theirs.kind):
        return _MATH_VERIFY.verify(_spelt(answer, ours, radians=True), _spelt(gold, theirs, radians=True))
    return verdict


def _unreadable(answer: str) -> bool:
    """What nobody is asked about."""
    return len(answer) > LONGEST or _UNPRINTABLE.search(answer) is not None


def _same(answer: str, ours: Reading, other: str, theirs: Reading) -> bool:
    if ours.kind == theirs.kind and ours.kind in _PLAIN:
        return ours == theirs
    if {ours.kind, theirs.kind} <= {"exact", "number"} and not (_unreadable(answer) or _unreadable(other)):
        values = (_MATH_VERIFY.value(_spelt(answer, ours)), _MATH_VERIFY.value(_spelt(other, theirs)))
        if () in values or _apart(*values):
            return False
    return _verdict(answer, ours, other, theirs).correct is True


def _apart(first: Value, second: Value) -> bool:
    """Whether both have values and these differ, which is known without comparing what they are made of."""
    if not first or not second:
        return False
    size = sum(abs(part) for part in (*first, *second))
    return any(abs(one - other) > size * SAME_SHARE for one, other in zip(first, second, strict=True))


def _spelt(answer: str, reading: Reading, radians: bool = False) -> str:
    """How Math-Verify gets an answer: a number without the spelling or unit that it might read otherwise.

    With ``radians`` degrees are an angle, and no longer a unit to be left out.
    """
    if radians and reading.kind == "degrees":
        return rf"\frac{{\pi}}{{180}} \cdot ({reading.value})"
    if reading.kind not in ("number", "degrees", "base") or not isinstance(reading.value, Fraction):
        return answer
    decimal = f"{Decimal(reading.value.numerator) / reading.value.denominator:f}"
    if "." in answer and Fraction(decimal) == reading.value:  # one that ends stays one
        return decimal
    return str(reading.value)


def equal(answer: str, gold: str) -> Verdict:
    """Whether ``answer`` means ``gold``: by their plain readings where those settle it, else by Math-Verify.

    An empty answer is wrong; one that is unprintable, longer than ``LONGEST``, or that Math-Verify cannot read, or not
    in time, could not be graded.
    """
    return _verdict(answer, read(answer), gold, read(gold))


def classes(answers: Sequence[str | None]) -> list[int]:
    """Equivalence classes of answers, numbered by first appearance; -1 for None and for an answer that says nothing.

    Plain readings are settled at once, and so is what has different values; what is left meets Math-Verify. An answer
    joins the first class all of whose answers it equals, so that no vote merges two answers that differ (50 and 0.5,
    that are both 50 %).
    """
    known: dict[Reading, int] = {}
    members: list[list[tuple[str, Reading]]] = []
    result = []
    for answer in answers:
        reading = None if answer is None else read(answer)
        if answer is None or reading is None or reading.value == "":
            result.append(-1)
            continue
        if reading not in known:
            same = (all(_same(answer, reading, *other) for other in members_of_one) for members_of_one in members)
            known[reading] = next((place for place, alike in enumerate(same) if alike), len(members))
            if known[reading] == len(members):
                members.append([])
            members[known[reading]].append((answer, reading))
        result.append(known[reading])
    return result


Value = tuple[Decimal, ...] | None
"""Real and imaginary part of a number or, at set values of its variables, of a function; None for what is neither.

Empty for what is not read in full, or takes longer than an answer may: it equals nothing but its own text.
"""


class MathVerify(AnsweringProcess):
    """Math-Verify in a child process: a hanging expression costs the time limit and one process, nothing else."""

    def __init__(self, limit_seconds: float = LIMIT_SECONDS) -> None:
        super().__init__(Path(__file__).with_name("math_verify_process.py"))
        self.limit_seconds = limit_seconds

    @cached_property
    def name(self) -> str:
        return f"math-verify {version('math-verify')} rules {RULES}"

    def verify(self, answer: str, gold: str) -> Verdict:
        """Never right for what is not read in full: then Math-Verify's reading of a part may only tell them apart."""
        try:
            try:
                (verdict,) = self.ask(expression(tidy(answer)), expression(tidy(gold)), True, self.limit_seconds)
            except UnreadError:
                verdict = None
            if verdict is None and not unsure(tidy(answer)) and not unsure(tidy(gold)):
                (verdict,) = self.ask(answer, gold, False, self.limit_seconds)
        except EOFError:
            verdict = None
        return Verdict(verdict, self.name)

    @lru_cache(maxsize=1 << 14)  # noqa: B019 - there is one of it
    def value(self, answer: str) -> Value:
        """What the whole ``answer`` is worth, to 40 digits; None also where it is nearly 0."""
        text = tidy(answer)
        if len(text) > LONGEST or _UNPRINTABLE.search(text):
            return None
        try:
            parts = self.ask(expression(text), None, True, self.limit_seconds)
        except (UnreadError, EOFError):
            return ()
        return None if parts is None else tuple(map(Decimal, parts))


_MATH_VERIFY = MathVerify()
