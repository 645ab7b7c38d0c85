"""Grading of final answers: exact form, then number, then Math-Verify in a process that can be stopped."""

from __future__ import annotations

import atexit
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

LIMIT_SECONDS = 5.0
RULES = "1"
"""The version of our own rules (``exact`` and ``number``), as verdicts carry it: raised when they change."""

_SPACES = re.compile(r"(?<!\w)\s+|\s+(?!\w)")  # not those between two words or numbers: "1 2" is not "12"
_COMMANDS = re.compile(r"\\(?:left|right|displaystyle|!|,|;|quad)(?![A-Za-z])")
_TEXT = re.compile(r"\\(?:text|mathrm|textbf)\{([^{}]*)\}")
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:/\d+)?")
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d*)?")


@dataclass(frozen=True)
class Verdict:
    """``correct`` is None when the answer could not be graded; ``grader`` names who said so, with its version."""

    correct: bool | None
    grader: str


def boxed(text: str) -> str | None:
    r"""The content of the last complete ``\boxed{...}``, stripped; None when there is none."""
    start = text.rfind("\\boxed{")
    while start >= 0:
        depth = 0
        for position in range(start + len("\\boxed"), len(text)):
            depth += {"{": 1, "}": -1}.get(text[position], 0)
            if depth == 0:
                return text[start + len("\\boxed{") : position].strip()
        start = text.rfind("\\boxed{", 0, start)
    return None


def normalise(answer: str) -> str:
    """One spelling for answers that differ in layout only: spaces, ``$``, ``\\left``, ``\\dfrac``, text commands."""
    text = _TEXT.sub(r"\1", _COMMANDS.sub("", answer.strip().rstrip(".").strip("$").strip().rstrip(".")))
    text = text.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac").replace("\\ ", "").replace("{,}", ",")
    if _THOUSANDS.fullmatch(text):  # a comma anywhere else separates: (1,234) is a pair
        text = text.replace(",", "")
    return _SPACES.sub("", text)


def number(answer: str) -> Fraction | None:
    """The rational number that ``answer`` plainly writes (``025``, ``1,000``, ``-3/4``, ``2.50``), else None."""
    text = normalise(answer)
    if not _NUMBER.fullmatch(text):
        return None
    try:
        top, _, bottom = text.partition("/")
        return Fraction(top) / Fraction(bottom or "1")
    except (ValueError, ZeroDivisionError):
        return None


def equal(answer: str, gold: str) -> Verdict:
    """Whether ``answer`` means ``gold``: normalised exact match, then number, then Math-Verify with a time limit.

    An empty answer is wrong; one that Math-Verify cannot read, or not in time, could not be graded.
    """
    ours, theirs = normalise(answer), normalise(gold)
    if ours == theirs or not ours:
        return Verdict(ours == theirs, f"exact {RULES}")
    our_number, their_number = number(answer), number(gold)
    if our_number is not None and their_number is not None:
        return Verdict(our_number == their_number, f"number {RULES}")
    return _MATH_VERIFY.verify(answer, gold)


def classes(answers: Sequence[str | None]) -> list[int]:
    """Equivalence classes of answers, numbered by first appearance; -1 for None.

    Plain numbers and equal spellings are settled at once; only the representatives of what is left meet Math-Verify.
    """
    keys: dict[str, int] = {}
    representatives: list[str] = []
    result = []
    for answer in answers:
        if answer is None:
            result.append(-1)
            continue
        value = number(answer)
        key = str(value) if value is not None else normalise(answer)
        if key not in keys:
            found = next((c for c, other in enumerate(representatives) if _same_class(answer, other)), None)
            if found is None:
                found = len(representatives)
                representatives.append(answer)
            keys[key] = found
        result.append(keys[key])
    return result


def _same_class(answer: str, other: str) -> bool:
    if number(answer) is not None and number(other) is not None:
        return False
    return equal(answer, other).correct is True


class MathVerify:
    """Math-Verify in a child process: a hanging expression costs the time limit and one process, nothing else.

    The child starts with the first question, and again after one that killed it. Threads take turns.
    """

    def __init__(self, limit_seconds: float = LIMIT_SECONDS) -> None:
        self.limit_seconds = limit_seconds
        self._process: subprocess.Popen[str] | None = None
        self._owner = 0
        self._turn = threading.Lock()

    @cached_property
    def name(self) -> str:
        return f"math-verify {version('math-verify')}"

    def verify(self, answer: str, gold: str) -> Verdict:
        with self._turn:
            try:
                return Verdict(self._ask(answer, gold), self.name)
            except (BrokenPipeError, EOFError):
                self.stop()
                return Verdict(None, self.name)

    def _ask(self, answer: str, gold: str) -> bool | None:
        mine = self._process is not None and self._owner == os.getpid()  # after a fork it is the parent's
        if not mine or self._process is None or self._process.poll() is not None:
            self._start()
        assert self._process is not None and self._process.stdin is not None
        print(json.dumps([answer, gold, self.limit_seconds]), file=self._process.stdin, flush=True)
        return self._reply()

    def _reply(self) -> bool | None:
        assert self._process is not None and self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise EOFError
        (verdict,) = json.loads(line)
        return None if verdict is None else bool(verdict)

    def _start(self) -> None:
        script = Path(__file__).with_name("math_verify_process.py")
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(script)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8",
        )  # fmt: skip
        self._owner = os.getpid()
        try:
            self._reply()
        except EOFError as error:
            self.stop()
            raise RuntimeError("the Math-Verify process did not start; its message is above") from error

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None and self._owner == os.getpid():
            process.kill()
            process.communicate()


_MATH_VERIFY = MathVerify()
atexit.register(_MATH_VERIFY.stop)
