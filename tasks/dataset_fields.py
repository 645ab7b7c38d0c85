"""What a row of a data set says: question, gold answer, choices, checked where they are read."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from prunebench.tasks.answer_types import AnswerType
from prunebench.tasks.answer_types.golds import accepted, any_of
from prunebench.tasks.errors import UserError, shown
from prunebench.tasks.rows import DataRow
from prunebench.tasks.task_spec import TaskSpec


@dataclass(frozen=True, eq=False)
class RowProblem:
    """A problem as its row gives it: ``key`` is the question, layout and case aside; no ``answer`` is None."""

    row: DataRow
    split: str | None
    key: str
    id: str
    prompt: str
    answer: str | None


@dataclass(frozen=True)
class FieldReader:
    """Reads the problem in a row as the description of its task says. Everything raises UserError with the place."""

    spec: TaskSpec
    answers: AnswerType

    def problem(self, split: str | None, row: DataRow) -> RowProblem:
        question, answer = self._question(row), self._gold(row)
        if question is None:
            name = field_of(row, self.spec.problem)
            raise UserError(f"{row.where}: field '{name}' is empty; fill it in or delete the row")
        key, choices = _normal(question), ""
        if answer is not None:
            choices, answer = self._choices(row, answer, key)
            if not all(map(self.answers.accepts, accepted(answer))):
                raise UserError(
                    f"{row.where}: answer {shown(answer)} is not {self.answers.form}, which answer_type "
                    f"'{self.spec.answer_type}' wants; mend the row, or choose another answer_type"
                )
        prompt = self.spec.prompt.replace("{choices}", choices).replace("{problem}", question)
        named = text_of(row, self.spec.id, "id", wanted=False)
        identity = f"{named}-{digest(key)[:6]}" if named else digest(key)[:12]  # another question is another problem
        return RowProblem(row, split, key, identity, prompt, answer)

    def key(self, row: DataRow) -> str:
        """The question, layout and case aside: questions that differ in these only are one question."""
        return _normal(self._question(row) or "")

    def _question(self, row: DataRow) -> str | None:
        question = text_of(row, self.spec.problem, "problem")
        context = text_of(row, self.spec.context, "context") if self.spec.context else None
        return f"{context}{self.spec.context_end}{question}" if question and context else question

    def _gold(self, row: DataRow) -> str | None:
        """The gold answer; a list holds several, of which any one is right."""
        listed = [row.values[name] for name in self.spec.answer if isinstance(row.values.get(name), list)]
        if listed and not self.spec.choices and self.spec.gold is None:
            items = [text_of(replace(row, values={"answer": item}), ("answer",), "answer") for item in listed[0]]
            golds = [item for item in items if item is not None]
            return any_of(golds) if golds else None
        text = text_of(row, self.spec.choices[:1] if len(self.spec.choices) > 1 else self.spec.answer, "answer")
        if text is None:
            return None
        if self.spec.gold is not None:
            match = re.search(self.spec.gold, text)
            if match is None:
                raise UserError(f"{row.where}: the pattern gold = {self.spec.gold!r} finds no answer in {shown(text)}")
            return match[1].strip() or None
        return (self.answers.stated(text) or None) if "\\boxed" in text else text

    def _choices(self, row: DataRow, answer: str, key: str) -> tuple[str, str]:
        """The choices as the prompt shows them, and the letter of the right one."""
        names = self.spec.choices
        if not names:
            return "", answer
        if len(names) > 1:
            texts = [str(value_of(row, (name,), "choices")).strip() for name in names]
            right = texts[0]
            random.Random(f"{self.spec.choice_seed}/{key}").shuffle(texts)
        else:
            listed = value_of(row, names, "choices")
            if not isinstance(listed, list | tuple) or not listed:
                raise UserError(
                    f"{row.where}: field '{names[0]}' is {shown(listed)}, where a list of choices is wanted"
                )
            texts, right = [str(choice).strip() for choice in listed], answer
        letters = [chr(ord("A") + place) for place in range(len(texts))]
        lines = "\n".join(f"{letter}) {text}" for letter, text in zip(letters, texts, strict=True))
        if right in texts:
            return lines, letters[texts.index(right)]
        if right in letters:
            return lines, right
        raise UserError(f"{row.where}: answer {shown(right)} is none of the choices {shown(texts)}")


def field_of(row: DataRow, names: Sequence[str]) -> str:
    """The first of ``names`` that the row has; the first of all where it has none."""
    return next((name for name in names if name in row.values), names[0])


def value_of(row: DataRow, names: Sequence[str], key: str, wanted: bool = True) -> Any:
    """The first value that is not empty under one of ``names``, None where all are.

    Raises UserError where the row has none of the fields and one is ``wanted``; ``key`` is that of the description.
    """
    present = [name for name in names if name in row.values]
    if not present and wanted:
        raise UserError(
            f"{row.where}: no field {' or '.join(map(repr, names))}; it has {', '.join(map(str, row.values))}: "
            f"name the right one under '{key}' in the task"
        )
    values = [row.values[name] for name in present]
    return next((value for value in values if value not in (None, "")), None)


def text_of(row: DataRow, names: Sequence[str], key: str, wanted: bool = True) -> str | None:
    """The value as a stripped text. Raises UserError as :func:`value_of`, and for what is neither text nor number."""
    value = value_of(row, names, key, wanted)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int | float | None):
        raise UserError(
            f"{row.where}: field '{field_of(row, names)}' is {shown(value)}, where a text or a number is wanted"
        )
    return (str(value).strip() or None) if value is not None else None


def digest(text: str) -> str:
    """The SHA-256 of a text in hex digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def _normal(question: str) -> str:
    return " ".join(question.casefold().split())
