"""Grading of final answers: exact form, then number, then Math-Verify in a process that can be stopped."""

from __future__ import annotations

import atexit
import multiprocessing
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection
from typing import Any

TIME_LIMIT_SECONDS = 5.0
_SPACES = re.compile(r"\s+")
_COMMANDS = re.compile(r"\\(?:left|right|displaystyle|!|,|;|quad)(?![A-Za-z])")
_TEXT = re.compile(r"\\(?:text|mathrm|textbf)\{([^{}]*)\}")
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:/\d+)?")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")


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
    text = _TEXT.sub(r"\1", _COMMANDS.sub("", answer.strip().strip("$").rstrip(".")))
    text = text.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac").replace("\\ ", "")
    return _THOUSANDS.sub("", _SPACES.sub("", text))


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
    """Whether ``answer`` means ``gold``: normalised exact match, then number, then Math-Verify with a time limit."""
    if normalise(answer) == normalise(gold):
        return Verdict(True, "exact")
    ours, theirs = number(answer), number(gold)
    if ours is not None and theirs is not None:
        return Verdict(ours == theirs, "number")
    return _WORKER.verify(answer, gold)


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


class _Worker:
    """Math-Verify in a child process: a hanging expression costs the time limit and one process, nothing else."""

    def __init__(self) -> None:
        self._process: Any = None
        self._pipe: Connection | None = None

    @property
    def name(self) -> str:
        try:
            return f"math-verify {version('math-verify')}"
        except PackageNotFoundError:
            return "math-verify (not installed)"

    def verify(self, answer: str, gold: str) -> Verdict:
        if self._process is None or not self._process.is_alive():
            self._start()
        assert self._pipe is not None
        try:
            self._pipe.send((answer, gold))
            if not self._pipe.poll(TIME_LIMIT_SECONDS):
                self.stop()
                return Verdict(None, self.name)
            return Verdict(self._pipe.recv(), self.name)
        except (EOFError, OSError):
            self.stop()
            return Verdict(None, self.name)

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        if not self._pipe.poll(60.0) or self._pipe.recv() != "ready":
            raise RuntimeError("the Math-Verify process did not start")

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None


def _serve(pipe: Connection) -> None:
    from math_verify import parse, verify

    pipe.send("ready")
    while True:
        try:
            answer, gold = pipe.recv()
        except EOFError:
            return
        try:
            parsed_gold = parse(f"${gold}$", parsing_timeout=None, raise_on_error=True)
            parsed = parse(f"${answer}$", parsing_timeout=None, raise_on_error=True)
            if parsed_gold and parsed:
                pipe.send(bool(verify(parsed_gold, parsed, timeout_seconds=None, raise_on_error=True)))
            else:
                pipe.send(None)
        except Exception:  # whatever a foreign parser raises means: could not be graded
            pipe.send(None)


_WORKER = _Worker()
atexit.register(_WORKER.stop)
