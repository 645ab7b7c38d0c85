"""Answer types: how a text states its answer, what a gold answer may be, when two answers are equal."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

from prunebench.tasks.errors import UserError
from prunebench.tasks.grading import Verdict, boxed, classes, equal, number, read

TYPES = ("integer", "math", "choice", "text")

_NAMED_CHOICE = re.compile(r"(?i:\"?\banswer\"?)\s*[:=]\s*\"?\(?([A-Z])\b")
_CHOICE = re.compile(r"\(?([A-Za-z])\)?\.?")
TEXT_GRADER = "text 1"


def numbered(answers: Sequence[str | None]) -> list[int]:
    """Classes of equal texts, numbered by first appearance; -1 for None."""
    numbers: dict[str, int] = {}
    return [-1 if answer is None else numbers.setdefault(answer, len(numbers)) for answer in answers]


class Answers:
    r"""Mathematics: the last ``\boxed{...}``; equal when they mean the same (see :func:`tasks.grading.equal`)."""

    form = "a number or an expression"
    suffix = "\n\n**Final Answer** \\boxed{"
    """Forces a final answer when it is put behind a prefix."""

    def stated(self, text: str) -> str | None:
        """The final answer that a text states, or None; an empty box states none."""
        return boxed(text) or None

    def accepts(self, gold: str) -> bool:
        """Whether ``gold`` is an answer of this type."""
        return read(gold).value != ""

    def grade(self, answer: str | None, gold: str) -> Verdict:
        """The verdict on a final answer; no answer is wrong."""
        return Verdict(False, "no answer") if answer is None else equal(answer, gold)

    def classes(self, answers: Sequence[str | None]) -> list[int]:
        """Equivalence classes, numbered by first appearance; -1 for None."""
        return classes(answers)


class Integers(Answers):
    """Mathematics whose answers are integers."""

    form = "an integer"

    def accepts(self, gold: str) -> bool:
        value = number(gold)
        return value is not None and value.denominator == 1


class Choices(Answers):
    r"""A letter: the last of ``"ANSWER": "C"``, ``Answer: C`` or ``\boxed{C}`` in the text."""

    form = "a letter"
    suffix = '\n\n"ANSWER": "'

    def stated(self, text: str) -> str | None:
        named = list(_NAMED_CHOICE.finditer(text))
        box, in_box = text.rfind("\\boxed"), boxed(text)
        if named and named[-1].start() > box:
            return named[-1][1]
        return in_box or (named[-1][1] if named else None)

    def accepts(self, gold: str) -> bool:
        return _CHOICE.fullmatch(gold.strip()) is not None

    def grade(self, answer: str | None, gold: str) -> Verdict:
        if answer is None:
            return Verdict(False, "no answer")
        return Verdict(_letter(answer) == _letter(gold), "choice 1")

    def classes(self, answers: Sequence[str | None]) -> list[int]:
        return numbered([None if answer is None else _letter(answer) for answer in answers])


class Texts(Answers):
    """Equal text, whatever the case and the blanks between its words."""

    form = "a text"

    def accepts(self, gold: str) -> bool:
        return bool(gold.strip())

    def grade(self, answer: str | None, gold: str) -> Verdict:
        if answer is None:
            return Verdict(False, "no answer")
        return Verdict(_plain(answer) == _plain(gold), TEXT_GRADER)

    def classes(self, answers: Sequence[str | None]) -> list[int]:
        return numbered([None if answer is None else _plain(answer) for answer in answers])


class Function(Answers):
    """A function of one's own, ``(answer, gold) -> bool``, or None where it cannot tell; it must be symmetric."""

    form = "an answer"

    def __init__(self, name: str, function: Callable[[str, str], bool | None]) -> None:
        self.name, self.function = name, function

    def accepts(self, gold: str) -> bool:
        return bool(gold.strip())

    def grade(self, answer: str | None, gold: str) -> Verdict:
        if answer is None:
            return Verdict(False, "no answer")
        try:
            verdict = self.function(answer, gold)
        except Exception as error:
            raise UserError(
                f"grader {self.name}: {type(error).__name__} on {answer!r} and {gold!r}: {error}"
            ) from error
        if not (verdict is None or isinstance(verdict, bool)):
            raise UserError(f"grader {self.name}: gave {verdict!r} on {answer!r}; it must return True, False or None")
        return Verdict(verdict, self.name)

    def classes(self, answers: Sequence[str | None]) -> list[int]:
        first: list[str] = []
        found = []
        for answer in answers:
            if answer is None:
                found.append(-1)
                continue
            same = next((place for place, other in enumerate(first) if self.grade(answer, other).correct), len(first))
            if same == len(first):
                first.append(answer)
            found.append(same)
        return found


def answers_of(kind: str, folder: Path | None = None) -> Answers:
    """The answer type of that name; ``module:function`` is looked for in ``folder`` first. Raises UserError."""
    known: dict[str, type[Answers]] = {"integer": Integers, "math": Answers, "choice": Choices, "text": Texts}
    if kind in known:
        return known[kind]()
    module, _, name = kind.partition(":")
    if not (module and name):
        raise UserError(f"answer type '{kind}' is not known: write {', '.join(TYPES)}, or module:function")
    try:
        source = _module(module, folder)
        function = getattr(source, name)
    except (ImportError, AttributeError, SyntaxError) as error:
        raise UserError(f"grader '{kind}': {error}; a file {module}.py with a function {name} is wanted") from error
    if source.__name__.partition(".")[0] in sys.stdlib_module_names:  # a file of one's own has another name
        raise UserError(f"grader '{kind}': {module} is Python's own and holds no grader; name a function of your own")
    return Function(kind, function)


def _module(name: str, folder: Path | None) -> ModuleType:
    file = folder / f"{name.replace('.', '/')}.py" if folder else None
    if file is None or not file.is_file():
        return importlib.import_module(name)
    return module_of(file)


def module_of(file: Path) -> ModuleType:
    """The module in a file, run once per process. Whatever it raises is raised."""
    name = f"prunebench_own_{file.stem}_{abs(hash(str(file.resolve())))}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, file)
        if spec is None or spec.loader is None:
            raise ImportError(f"{file} is no Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look their module up
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


def _letter(answer: str) -> str:
    found = _CHOICE.fullmatch(answer.strip())
    return found[1].upper() if found else str(read(answer).value).upper()


def _plain(answer: str) -> str:
    return " ".join(answer.casefold().split())
