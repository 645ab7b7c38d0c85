"""Answers that a function of one's own compares: ``module:function`` in a task."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from prunebench.tasks.answer_types.base import AnswerType
from prunebench.tasks.answer_types.boxes import boxes
from prunebench.tasks.errors import UserError
from prunebench.tasks.grading import Verdict
from prunebench.tasks.python_files import module_of


class FunctionAnswers(AnswerType):
    """``function``: (answer, gold) to True, False, or None where it cannot tell; it must be symmetric."""

    numbers = True

    def __init__(self, label: str, function: Callable[[str, str], bool | None]) -> None:
        self.label, self.function = label, function

    def gold_in(self, text: str) -> str | None:
        """All of the text, as its function may know what to make of it, but of a boxed answer that."""
        return self.stated(text) if boxes(text) else text

    def accepts(self, gold: str) -> bool:
        return bool(gold.strip())

    def equal(self, answer: str, gold: str) -> Verdict:
        try:
            verdict = self.function(answer, gold)
        except Exception as error:
            raise UserError(
                f"grader {self.label}: {type(error).__name__} on {answer!r} and {gold!r}: {error}"
            ) from error
        if not (verdict is None or isinstance(verdict, bool)):
            raise UserError(f"grader {self.label}: gave {verdict!r} on {answer!r}; it must return True, False or None")
        return Verdict(verdict, self.label)


def function_answers(label: str, folder: Path | None) -> FunctionAnswers:
    """The answers of ``module:function``; the module is looked for in ``folder`` first. Raises UserError."""
    module, _, name = label.partition(":")
    try:
        source = _module(module, folder)
        function = getattr(source, name)
    except (ImportError, AttributeError, SyntaxError) as error:
        raise UserError(f"grader '{label}': {error}; a file {module}.py with a function {name} is wanted") from error
    if source.__name__.partition(".")[0] in sys.stdlib_module_names:  # a file of one's own has another name
        raise UserError(f"grader '{label}': {module} is Python's own and holds no grader; name a function of your own")
    return FunctionAnswers(label, function)


def _module(name: str, folder: Path | None) -> ModuleType:
    file = folder / f"{name.replace('.', '/')}.py" if folder else None
    return module_of(file) if file is not None and file.is_file() else importlib.import_module(name)
